# Keeps a directory and one server in it for as long as the client lives.
#
#   sh -c SCRIPT reaper DIRECTORY GRACE
#
# Only the client holds the other end of stdin. Each line of it is a call of a
# function below; its end means that the client is gone, however it went. This is
# the leader of its own process group, so a terminal's Ctrl-C passes it by.

dir=$1 grace=$2
run='' signal='' job='' linger='' kept=''

umask 077
# A trap, not '': what is ignored here would stay ignored in the server.
trap : HUP INT QUIT TERM
mkdir -m 700 "$dir" || exit 73
exec 2>"$dir/reaper.log"
: >"$dir/log"

ended() { [ -s "$dir/exit.$run" ]; }

# start RUN SIGNAL PROGRAM [ARGUMENT...]: the files of each run bear its number, so
# that nobody takes the end of one for that of the next. SIGNAL ends it when the
# client is gone; with 0, which is none, it may finish.
start() {
  run=$1 signal=$2
  shift 2
  (
    # Outlives the signal meant for the server, to say how the server ended.
    trap : HUP INT QUIT TERM
    sh -c 'echo $$ >"$0" && exec "$@"' "$dir/pid.$run" "$@"
    echo "$?" >"$dir/exit.$run"
  ) </dev/null >>"$dir/log" 2>&1 5<&- &
  job=$!
}

# halt SIGNAL: to the whole group, since its id cannot be another's while this
# process lives. A process id could: that of a server which ended by itself.
halt() {
  [ -n "$job" ] || return 0
  tries=$((grace * 20))
  until ended || [ "$tries" -le 0 ]; do
    # Each second again: a server that is only starting may not listen yet.
    if [ "$((tries % 20))" -eq 0 ]; then kill -s "$1" 0; fi
    sleep 0.05
    tries=$((tries - 1))
  done
  if ! ended && read -r pid <"$dir/pid.$run"; then kill -s KILL "$pid"; fi
  wait "$job"
  job=''
}

# share SECONDS: whoever opens $dir/users for writing is a client as well. This
# process is its only reader, and a writer for as long as opening it takes, since
# a reader alone would wait for the first writer.
share() {
  linger=$1
  mkfifo "$dir/users"
  exec 4<>"$dir/users"
  exec 5<"$dir/users"
  exec 4>&-
}

# keep: the end of stdin ends nothing; a signal to this process does.
keep() {
  kept=yes
  trap "kept=''" HUP INT QUIT TERM
}

while IFS= read -r line; do eval "$line"; done

if [ -n "$linger" ]; then
  idle=0
  # A reading that finds no writer ends at once; one with a writer waits for it.
  while [ "$idle" -lt "$((linger * 4))" ]; do
    if read -r line <&5; then
      idle=0
    else
      sleep 0.25
      idle=$((idle + 1))
    fi
  done
  # From here nobody gets in, and who did is waited for.
  mv "$dir/users" "$dir/closed"
  while read -r line <&5; do :; done
fi
while [ -n "$kept" ]; do sleep 1; done

trap : HUP INT QUIT TERM
halt "$signal"
tries=20
until rm -rf "$dir" || [ "$tries" -le 0 ]; do
  sleep 0.1
  tries=$((tries - 1))
done
