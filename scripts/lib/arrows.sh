# shellcheck shell=bash
# The arrows between our crates, and what may not be in their trees; the plan is
# in ARCHITECTURE.md. Sourced by scripts/check.

# The workspace's crates that CRATE may use directly, in normal and build
# dependencies. Tests may use anything.
allowed_arrows() {
  case $1 in
    ops-core) ;;
    ops-pg | ops-cache | ops-host | ops-alerts) echo ops-core ;;
    ops-backup) echo ops-core ops-pg ;;
    ops-runbook) echo ops-core ops-pg ops-cache ops-host ops-alerts ops-backup ;;
    # Binaries, examples and the test kit: any library.
    *) libraries ;;
  esac
}

# Directories are named after their packages.
libraries() { for dir in crates/*/; do basename "$dir"; done; }

# packages_of CRATE CARGO-TREE-ARGS...: package names in CRATE's tree, itself
# included. For all targets: a dependency on macOS alone is one, too.
packages_of() {
  local crate=$1 tree
  shift
  # A failing cargo must fail the check, not give an empty tree in which nothing
  # is forbidden; errexit does not reach into a command substitution.
  tree=$(cargo tree --quiet -p "$crate" -e normal,build --target all --prefix none --format '{p}' "$@") || return
  cut -d ' ' -f 1 <<<"$tree" | sort -u
}

workspace_packages() {
  local tree
  tree=$(cargo tree --quiet --workspace --depth 0 --prefix none --format '{p}') || return
  cut -d ' ' -f 1 <<<"$tree" | sed '/^$/d'
}

# complain TEXT: a broken rule; the step goes on to find the others.
broken=0
complain() {
  say "    $*"
  broken=1
}

# forbid CRATE WHY CARGO-TREE-ARGS... -- NAME...: none of the named families (NAME or
# NAME-*) is in the tree; prints the way by which it came in.
forbid() {
  local crate=$1 why=$2 args=() tree name found
  shift 2
  while [ "$1" != -- ]; do
    args+=("$1")
    shift
  done
  shift
  tree=$(packages_of "$crate" "${args[@]}")
  for name in "$@"; do
    found=$(grep -Ex "$name(-.*)?" <<<"$tree" | head -n 1) || continue
    complain "$crate has $found in its dependencies: $why"
    cargo tree --quiet -p "$crate" -e normal,build --target all "${args[@]}" -i "$found" 2>/dev/null | head -n 20 >&2 || true
  done
}

check_direct_arrows() {
  local ours crate allowed direct dep
  ours=$(workspace_packages)
  for crate in $ours; do
    allowed=" $(allowed_arrows "$crate" | tr '\n' ' ') "
    direct=$(packages_of "$crate" --depth 1 --all-features)
    for dep in $(comm -12 <(sort <<<"$ours") <(sort <<<"$direct")); do
      case " $crate$allowed" in
        *" $dep "*) ;;
        *) complain "$crate -> $dep is no arrow of ours; $crate may use:$allowed" ;;
      esac
    done
  done
}

check_arrows() {
  local crate
  check_direct_arrows
  forbid ops-core "the core knows no driver" --all-features -- \
    sqlx redis object_store reqwest axum clap lettre
  for crate in $(libraries); do
    forbid "$crate" "only bins/ read arguments" --all-features -- clap
  done
  # Pushing and fetching WAL needs no connection, and has to start quickly.
  forbid ops-backup "ops-pg comes with the feature pg alone" --no-default-features -- ops-pg sqlx
  forbid ops-wal "it is built on ops-backup without its feature pg" --all-features -- ops-pg sqlx
  return "$broken"
}

# rustls panics at run time when two providers are linked in, and a second TLS
# library doubles what has to be kept safe. Dev-dependencies count: tests link them.
check_tls() {
  local crate found
  for crate in ring openssl openssl-sys native-tls boring rustls-rustcrypto; do
    # Fails when the crate is not in Cargo.lock; prints nothing when it is there
    # but no feature of ours turns it on.
    found=$(cargo tree --quiet --workspace --all-features -e normal,build,dev --target all -i "$crate" 2>/dev/null) || continue
    if [ -n "$found" ]; then
      complain "a second TLS provider, $crate:"
      head -n 30 <<<"$found" >&2
    fi
  done
  found=$(cargo tree --quiet --workspace --all-features -e normal,build,dev --target all -i aws-lc-rs 2>/dev/null) || true
  [ -n "$found" ] || complain "aws-lc-rs itself was not found: this check no longer sees the tree it is meant for"
  return "$broken"
}
