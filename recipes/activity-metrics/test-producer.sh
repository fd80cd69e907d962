#!/bin/sh
# Sends N random activities (default 10) to a running server: ./test-producer.sh 100
# Every call sends others; SEED=1 repeats them. URL and TIDEMILL say where the server is, and the binary.
set -eu
count=${1:-10}
seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
"${TIDEMILL:-tidemill}" generate activity "$count" --seed "$seed" |
    curl -sS --fail-with-body -H 'content-type: application/x-ndjson' --data-binary @- \
        "${URL:-http://localhost:8080}/activity"
