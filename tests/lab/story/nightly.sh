#!/bin/sh
# The contractor's nightly job, as a CI system would start it. It knows nothing of lineal. It prints one JSON
# object a line, which the story (tests/src/story.rs) checks.
set -eu

orders=$(psql -XAtq -c 'SELECT count(*) FROM orders')
printf '{"who":"nightly.sh","statement":"SELECT count(*) FROM orders","rows":1,"value":"%s"}\n' "$orders"

/usr/bin/python3 "$(dirname "$0")/report.py"
