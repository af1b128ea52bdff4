//! A secret as the file has it, and where its value comes from.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use ops_core::Secret;
use ops_core::redact::ExposeSecret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::schema::EXPECTED;
use super::surroundings::Surroundings;

/// `{ env = "NAME" }`, `{ file = "PATH" }`, or the text itself, in which `${NAME}` stands for a variable.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum SecretRef {
    Env { env: String },
    File { file: PathBuf },
    Text(Secret),
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret: from an environment variable, from a file, or as text in which \
                            ${NAME} stands for an environment variable.",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                {
                    "type": "object",
                    "properties": {
                        "env": {
                            "description": "The environment variable that holds it.",
                            "type": "string",
                            "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
                            (EXPECTED): "the name of an environment variable",
                        },
                        "file": {
                            "description": "The file that holds it; from the directory of ops.toml where the \
                                            path is relative. A line break at its end does not count.",
                            "type": "string",
                            "minLength": 1,
                        },
                    },
                    "additionalProperties": false,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ],
            (EXPECTED): "a string, { env = \"NAME\" } or { file = \"PATH\" }",
        })
    }
}

/// Why a secret has no value.
#[derive(Debug)]
pub(super) struct Unresolved {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl SecretRef {
    /// Its value. Paths are taken from `directory`.
    pub(super) fn resolve(
        &self,
        directory: &Path,
        surroundings: &dyn Surroundings,
    ) -> Result<Secret, Unresolved> {
        let value = match self {
            SecretRef::Text(secret) => secret.clone(),
            SecretRef::Env { env } => {
                let value = surroundings.env(env).ok_or_else(|| Unresolved {
                    message: format!("the environment variable {env} is not set"),
                    help: None,
                })?;
                Secret::from(value)
            }
            SecretRef::File { file } => {
                let path = directory.join(file);
                let text = surroundings.file(&path).map_err(|error| Unresolved {
                    message: format!("{} cannot be read: {}", path.display(), plain(&error)),
                    help: (error.kind() == std::io::ErrorKind::PermissionDenied)
                        .then(|| "the user that runs ops must be able to read it".to_owned()),
                })?;
                Secret::from(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        };
        if value.expose_secret().trim().is_empty() {
            let what = self.source().unwrap_or_else(|| "it".to_owned());
            return Err(Unresolved { message: format!("{what} is empty"), help: None });
        }
        Ok(value)
    }

    /// Where its value comes from, unless it stands in the file.
    pub(super) fn source(&self) -> Option<String> {
        match self {
            SecretRef::Text(_) => None,
            SecretRef::Env { env } => Some(format!("env {env}")),
            SecretRef::File { file } => Some(format!("file {}", file.display())),
        }
    }

    /// The file that everybody on the machine may read, if it is one.
    pub(super) fn open_to_all(&self, directory: &Path, surroundings: &dyn Surroundings) -> Option<PathBuf> {
        let SecretRef::File { file } = self else { return None };
        let path = directory.join(file);
        surroundings.mode(&path).is_some_and(|mode| mode & 0o004 != 0).then_some(path)
    }
}

/// An I/O error without its number.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not text".to_owned(),
        _ => error.to_string(),
    }
}
