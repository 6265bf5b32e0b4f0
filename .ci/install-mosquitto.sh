#!/bin/sh
# Mosquitto is the broker of the tests and of the demo. It is installed where we may (root or passwordless sudo on a
# Debian-like system); elsewhere the demo falls back to amqtt and the tests that need Mosquitto say that it is missing.
PATH="$PATH:/usr/sbin:/usr/local/sbin"
command -v mosquitto >/dev/null 2>&1 && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "mosquitto: not installed, and this system has no apt-get; the demo will use amqtt"
    exit 0
fi
if [ "$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo -n"; else
    echo "mosquitto: not installed, and installing it needs root; the demo will use amqtt"
    exit 0
fi
echo "installing mosquitto with apt-get"
$run apt-get update -qq && $run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto >/dev/null ||
    echo "mosquitto: apt-get could not install it; the demo will use amqtt"
