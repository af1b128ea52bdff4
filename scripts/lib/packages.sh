# shellcheck shell=bash
# Installing what is missing, with apt, dnf or brew. Sourced by scripts/setup.
#
# Only binaries are wanted: no service may start, now or at the next boot, and no
# configuration may stay behind on somebody's machine.

apt_install() {
  say "setup: apt-get install $*"
  # Lists may be absent (a fresh container) or too old for the mirror. One broken
  # third-party source need not stop what comes from another.
  as_root apt-get update -qq >&2 || say "setup: apt-get update failed; trying with the lists that are here"
  # --no-upgrade: what is installed already is the owner's to upgrade.
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends --no-upgrade "$@" >&2
}

install_packages() {
  case $(package_manager) in
    apt-get) apt_install "$@" ;;
    dnf)
      say "setup: dnf install $*"
      as_root dnf install -y -q "$@" >&2
      ;;
    brew)
      say "setup: brew install $*"
      brew install --quiet "$@" >&2
      ;;
    *) die "None of apt-get, dnf and brew is here. Install by hand: $*" ;;
  esac
}

# Debian's server package creates a cluster and starts it, unless
# createcluster.conf says no. That file comes with postgresql-common, so this goes
# first (alone it starts nothing); the no is a drop-in which is removed again, so
# that a later `pg_createcluster` finds the configuration untouched.
apt_install_postgres() {
  local dropin=/etc/postgresql-common/createcluster.d status=0
  say "setup: PostgreSQL's binaries, without creating or starting a cluster"
  apt_install postgresql-common
  as_root mkdir -p "$dropin"
  printf 'create_main_cluster = false\n' | as_root tee "$dropin/ops-setup.conf" >/dev/null
  apt_install postgresql || status=$?
  as_root rm -f "$dropin/ops-setup.conf"
  as_root rmdir "$dropin" 2>/dev/null || true
  return "$status"
}

# Debian's redis-server package enables and starts a daemon, but the program is
# in redis-tools: one binary which goes by the name it is called with. A link to
# it in the tools directory is a Redis that nothing starts by itself.
apt_install_redis() {
  say "setup: Redis's binary (package redis-tools), without its service"
  apt_install redis-tools
  mkdir -p "$OPS_TOOLS/bin"
  ln -sf "$(command -v redis-check-rdb)" "$OPS_TOOLS/bin/redis-server"
  "$OPS_TOOLS/bin/redis-server" --version | grep -qi 'server v=' && return
  rm -f "$OPS_TOOLS/bin/redis-server"
  die "redis-tools holds no Redis server here. Install redis-server by hand, or set OPS_REDIS_SERVER."
}

# Debian's pgbouncer package enables and starts a daemon as well, and has its binary
# nowhere else: it is unpacked, and only its libraries are installed.
apt_install_pgbouncer() {
  local dir libraries
  say "setup: PgBouncer's binary (unpacked into $OPS_TOOLS/bin), without its service"
  dir=$(mktemp -d)
  as_root apt-get update -qq >&2 || say "setup: apt-get update failed; trying with the lists that are here"
  (cd "$dir" && apt-get download -qq pgbouncer >&2 && dpkg-deb -x pgbouncer_*.deb unpacked) || return
  libraries=$(dpkg-deb -f "$dir"/pgbouncer_*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ |(]*\).*/\1/p')
  # shellcheck disable=SC2086 # names of packages, one word each
  apt_install $libraries || return
  mkdir -p "$OPS_TOOLS/bin"
  install -m 755 "$dir/unpacked/usr/sbin/pgbouncer" "$OPS_TOOLS/bin/pgbouncer" || return
  rm -rf "$dir"
  "$OPS_TOOLS/bin/pgbouncer" --version >&2
}

# Fedora's and Homebrew's packages start nothing.
install_postgres() {
  case $(package_manager) in
    apt-get) apt_install_postgres ;;
    dnf) install_packages postgresql-server postgresql-contrib ;;
    brew) install_packages postgresql@17 ;;
    *) die "Install a PostgreSQL server, version 14 or later, or set OPS_PG_BIN_<major> to its bin directory." ;;
  esac
}

install_redis() {
  case $(package_manager) in
    apt-get) apt_install_redis ;;
    # Newer Fedora has Valkey in Redis's place.
    dnf) install_packages redis || install_packages valkey ;;
    brew) install_packages redis ;;
    *) die "Install Redis 6.2 or later, or set OPS_REDIS_SERVER to its redis-server." ;;
  esac
}

install_pgbouncer() {
  case $(package_manager) in
    apt-get) apt_install_pgbouncer ;;
    *) install_packages pgbouncer ;;
  esac
}

# aws-lc, the TLS library, is C. It brings its assembler output along and needs a
# C compiler; cmake only on platforms without prebuilt bindings.
install_c_compiler() {
  case $(package_manager) in
    apt-get) apt_install gcc libc6-dev ;;
    dnf) install_packages gcc ;;
    *) die "A C compiler is missing. On macOS: xcode-select --install" ;;
  esac
}
