# Sourced by up.sh and down.sh: what runs, where it is written down, and how it is ended.
base=${COUNTERSIGN_CLOUD_DIR:-$here/../target/cloud}
mkdir -p "$base"
base=$(cd "$base" && pwd)
run=$base/run

lock() {
    exec 8>"$base/run.lock"
    # A machine without flock has Docker, whose names are a lock of their own.
    ! command -v flock >/dev/null || flock -w 600 8 || {
        echo "Another 'make cloud' or 'make cloud-down' holds $base/run.lock for too long." >&2
        exit 1
    }
}

# A client alone is not enough: it has to find an engine.
docker_runs() {
    local limit=
    ! command -v timeout >/dev/null || limit="timeout 20"
    [ "${CLOUD_DOCKER:-yes}" != no ] && command -v docker >/dev/null && {
        $limit docker info && docker compose version
    } >/dev/null 2>&1
}
compose() {
    CLOUD_PORT=$(cat "$run/port") docker compose --project-name countersign-cloud --file "$here/docker-compose.yml" "$@"
}

is_running() {
    [ -e "$run/kind" ] || return 1
    if [ "$(cat "$run/kind")" = docker ]; then
        [ -n "$(compose ps --quiet --status running 2>/dev/null)" ]
    else
        is_process "$(cat "$run/pid")"
    fi
}
log() {
    if [ "$(cat "$run/kind")" = docker ]; then compose logs --tail 50; else tail -n 50 "$run/log"; fi 2>&1
}

# A process is its number and the moment it started: the number alone may be a stranger's by now. One that has ended
# and whom nobody asked about yet (Z) is none.
start_of() { sed 's/.*) //; /^[ZX]/d' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }
is_process() {
    local pid=${1% *} start=${1#* }
    [ -n "$start" ] && [ "$(start_of "$pid")" = "$start" ]
}

start_on_host() {
    # In a session of its own, so that no terminal ends it and that it can be ended as a group.
    setsid "$here/run.sh" "$(cat "$run/port")" "$run/localstack" </dev/null >"$run/log" 2>&1 8>&- &
    echo "$! $(start_of $!)" >"$run/pid"
    echo host >"$run/kind"
}

# The processes whose files are in the run's directory: LocalStack and its DynamoDB.
of_this_run() {
    local process
    for process in /proc/[0-9]*; do
        if { tr '\0' '\n' <"$process/environ"; } 2>/dev/null | grep -qxF "FILESYSTEM_ROOT=$run/localstack"; then
            echo "${process#/proc/}"
        fi
    done
}

# Asks the group to end; after 15 s, or for what left the group, there is no asking.
end_on_host() {
    local pid deadline=$((SECONDS + 15))
    pid=$(cut -d ' ' -f 1 "$run/pid")
    ! is_process "$(cat "$run/pid")" || kill -TERM -- "-$pid" 2>/dev/null || true
    while [ -n "$(of_this_run)" ] && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
    deadline=$((SECONDS + 10))
    while [ -n "$(of_this_run)" ]; do
        [ $SECONDS -lt $deadline ] || {
            echo "LocalStack's processes $(of_this_run | tr '\n' ' ')do not end." >&2
            exit 1
        }
        kill -KILL $(of_this_run) 2>/dev/null || true
        sleep 0.1
    done
    echo "LocalStack has ended."
}
