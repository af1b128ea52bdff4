# shellcheck shell=bash
# What every script here shares: speaking, asking for root, running timed steps.
# Sourced, never run.

# Progress goes to stderr, so that a script's stdout stays its result.
say() { printf '%s\n' "$*" >&2; }

# What a reader must not overlook, also in a long CI log.
loud() { printf '\n!!! %s\n\n' "$*" >&2; }

die() {
  loud "$*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# A command as root. A person at a terminal may be asked for a password; a
# script must never hang on that question.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo && [ -t 0 ]; then
    sudo "$@"
  elif have sudo && sudo -n true 2>/dev/null; then
    sudo -n "$@"
  else
    die "This needs root, and sudo is not to be had without a password. Run as root: $*"
  fi
}

# The first of apt, dnf and brew that is here; nothing if none is.
package_manager() {
  local tool
  for tool in apt-get dnf brew; do
    if have "$tool"; then
      printf '%s\n' "$tool"
      return
    fi
  done
}

failed_steps=()

# run_step HEADING FUNCTION [ARG...]: prints the heading and the time it took.
# A failure is remembered and the next step still runs, so that one run reports
# everything that is wrong.
run_step() {
  local heading=$1 began=$SECONDS status
  shift
  say "==> $heading"
  # Not `if ("$@")`: bash ignores errexit inside a condition, and a failing
  # command in the middle of a step would pass unseen.
  set +e
  (
    set -euo pipefail
    "$@"
  )
  status=$?
  set -e
  if [ "$status" -eq 0 ]; then
    say "    ok, $((SECONDS - began)) s"
  else
    say "    FAILED (exit $status), $((SECONDS - began)) s"
    failed_steps+=("$heading")
  fi
}

# The exit status of a script made of steps.
report_steps() {
  [ "${#failed_steps[@]}" -eq 0 ] && return 0
  loud "$1: ${#failed_steps[@]} failed:"
  printf '      %s\n' "${failed_steps[@]}" >&2
  return 1
}
