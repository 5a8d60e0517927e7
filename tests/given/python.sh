#!/bin/sh
echo "$*" >> calls.txt
case "$*" in
  *"-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *"$KILL_AT"*) [ -z "$KILL_AT" ] || kill -9 0 ;;
esac
