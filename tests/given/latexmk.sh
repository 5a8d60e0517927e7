#!/bin/sh
case "$*" in
  *-C*) rm -f learning_dynamics.aux; exit ;;
esac
if [ -e learning_dynamics.aux ] && [ "$(cat learning_dynamics.aux)" != whole ]; then exit 12; fi
if [ -e kill ]; then echo hal > learning_dynamics.aux; kill -9 0; fi
echo whole > learning_dynamics.aux
