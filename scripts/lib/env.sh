# shellcheck shell=bash
# Where the tools are. Sourced by every script here; finds, never installs.
#
# Exports, for ops-testkit and `ops demo`:
#   OPS_TOOLS           what scripts/setup installs for itself
#   OPS_PG_BIN_<major>  a directory with initdb, postgres and pg_ctl; unset when
#                       that version is not on this machine
#   OPS_REDIS_SERVER    a redis-server (or valkey-server) to run
# What is already set is left alone.

oldest_postgres=14
newest_postgres=18

# PostgreSQL refuses to run as root, and root's home is closed to everyone else:
# what root installs has to lie where an unprivileged user can read it.
default_tools_dir() {
  if [ "$(id -u)" -eq 0 ]; then
    printf '%s\n' /var/cache/ops-tools
  else
    printf '%s\n' "${XDG_CACHE_HOME:-$HOME/.cache}/ops-tools"
  fi
}

# Every directory that may hold a PostgreSQL server, the preferred ones first.
postgres_candidates() {
  local major dir
  for major in $(seq "$newest_postgres" -1 "$oldest_postgres"); do
    printf '%s\n' \
      "$OPS_TOOLS/postgres-$major/bin" \
      "/usr/lib/postgresql/$major/bin" \
      "/usr/pgsql-$major/bin" \
      "/opt/homebrew/opt/postgresql@$major/bin" \
      "/usr/local/opt/postgresql@$major/bin"
  done
  if dir=$(command -v postgres); then dirname "$dir"; fi
}

# The major version in the directory's name, or what the server itself says
# (slower, so asked only where the path does not tell).
postgres_major() {
  case $1 in
    */postgres-[0-9]*/bin | */postgresql/[0-9]*/bin | */pgsql-[0-9]*/bin | */postgresql@[0-9]*/bin)
      dirname "$1" | sed 's/.*[^0-9]\([0-9][0-9]*\)$/\1/' ;;
    *) "$1/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/p' ;;
  esac
}

find_postgres() {
  local dir major variable
  while read -r dir; do
    if ! [ -x "$dir/postgres" ] || ! [ -x "$dir/initdb" ] || ! [ -x "$dir/pg_ctl" ]; then continue; fi
    major=$(postgres_major "$dir")
    variable=OPS_PG_BIN_$major
    if [ -n "$major" ] && [ -z "${!variable:-}" ]; then export "$variable=$dir"; fi
  done < <(postgres_candidates)
}

find_redis() {
  local candidate
  if [ -n "${OPS_REDIS_SERVER:-}" ]; then return; fi
  for candidate in redis-server valkey-server "$OPS_TOOLS/bin/redis-server"; do
    if candidate=$(command -v "$candidate"); then
      export OPS_REDIS_SERVER=$candidate
      return
    fi
  done
}

# True when any PostgreSQL that ops supports is here.
any_postgres() {
  local major variable
  for major in $(seq "$oldest_postgres" "$newest_postgres"); do
    variable=OPS_PG_BIN_$major
    if [ -n "${!variable:-}" ]; then return 0; fi
  done
  return 1
}

# Run again after an installation.
discover() {
  export OPS_TOOLS=${OPS_TOOLS:-$(default_tools_dir)}
  case ":$PATH:" in
    *":$OPS_TOOLS/bin:"*) ;;
    *) export PATH="$OPS_TOOLS/bin:$PATH" ;;
  esac
  find_postgres
  find_redis
}

discover
