#!/usr/bin/env bash
# A schedule's life over the HTTP API, with curl. It needs API_URL, AGENT, and TOKEN, which may have scopes.
#
#   make run                                             # first terminal
#   make agent OWNER=alice AGENT=weather-agent           # second
#   API_URL=http://127.0.0.1:3000 AGENT=weather-agent TOKEN=$(make -s token SUBJECT=alice) examples/http_api.sh
#
# --retry repeats a request after 429, 5xx and lost connections, and waits as Retry-After says. A create and a trigger may
# be repeated because of their Idempotency-Key, the other requests because they are idempotent by nature. 4xx is final.
set -euo pipefail

schedules="$API_URL/agents/$AGENT/schedules"
name="${NAME:-daily}"
key="${KEY:-$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen)}"

request() {
  curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused --retry-max-time 60 \
    --header "Authorization: Bearer $TOKEN" "$@"
  echo
}

curl --silent --show-error --fail "$API_URL/health" && echo # needs no token

create() {
  request "$schedules" --header "Idempotency-Key: create-$key" --header "Content-Type: application/json" --data @- <<JSON
{"name": "$name", "workflow_name": "Report", "task_queue": "reports", "cron_expression": "0 9 * * *"}
JSON
}
create
create # the same key and the same request: the same schedule

request "$schedules?page_size=10"
request "$schedules/$name/pause" --header "Content-Type: application/json" --data '{"note": "maintenance"}'
request "$schedules/$name/unpause" --request POST
request "$schedules/$name/trigger" --request POST --header "Idempotency-Key: trigger-$key"
request "$schedules/$name/trigger" --request POST --header "Idempotency-Key: trigger-$key" # triggers nothing more
request "$schedules/$name" --request DELETE
