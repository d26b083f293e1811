#!/usr/bin/env bash
# What the tests need besides Python: a browser, a broker, PostgreSQL and Prometheus, from Debian's packages. Without root
# nothing is installed, and the tests that need them skip with the reason.
set -eu
need=""
command -v chromium >/dev/null || need="$need chromium"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || need="$need postgresql"
[ -x /usr/sbin/mosquitto ] || command -v mosquitto >/dev/null || need="$need mosquitto"
command -v promtool >/dev/null || need="$need prometheus"
fc-list :lang=zh 2>/dev/null | grep -q . || need="$need fonts-noto-cjk"
if [ -z "$need" ]; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "==> not installed (needs root):$need; the tests that need them skip"
  exit 0
fi
echo "==> installing for the tests:$need"
export DEBIAN_FRONTEND=noninteractive
# installing a broker must not start it: the tests run their own private ones
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $need >/dev/null
