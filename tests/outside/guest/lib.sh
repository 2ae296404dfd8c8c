# Checks and their count; sourced by the scripts that run in the guest (busybox sh).
# shellcheck shell=sh

passed=0 failed=0 skipped=0
out='' status=0
limit=180         # seconds for one command, on an emulated processor that may be slow

# run COMMAND... : run it with what it prints in $out and its exit status in $status.
run() {
  out=$(timeout -k 5 "$limit" "$@" 2>&1)
  status=$?
  [ "$status" != 143 ] || out="$out
(the command was ended after $limit s)"
}

# check NAME TEST... : count whether the test command succeeds, and show $out where it does not.
check() {
  name=$1
  shift
  if "$@" >/dev/null 2>&1; then
    passed=$((passed + 1))
    echo "ok - $name"
  else
    failed=$((failed + 1))
    echo "not ok - $name"
    echo "#   test: $*"
    echo "#   status $status, output:"
    echo "$out" | head -n 40 | sed 's/^/#   | /'
  fi
}

skip() { # skip NAME WHY
  skipped=$((skipped + 1))
  echo "ok - $1 # SKIP $2"
}

gave() { [ "$status" = 0 ] && [ "$out" = "$1" ]; }            # it succeeded with just this output
line() { echo "$out" | grep -qxF -- "$1"; }                   # one of its lines is this
like() { echo "$out" | grep -qE -- "$1"; }                    # one of its lines matches this
unlike() { [ "$status" = 0 ] && ! like "$1"; }                # it succeeded, and none of them does
ended() { [ "$status" = "$1" ]; }
refused() { [ "$status" != 0 ]; }

# until_true COMMAND... : wait for up to 60 s, and longer on a slow machine, for it to succeed.
until_true() {
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.2
  done
  return 1
}

close() {
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
