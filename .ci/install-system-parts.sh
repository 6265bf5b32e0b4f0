#!/bin/sh
# What is not a Python package: Mosquitto, the broker of the tests and of the demo; qemu-user, which runs ONNX Runtime as
# on a CPU without VNNI and compiled models as on ARM; gcc and valgrind for compiled models. They are installed where we may
# (root or passwordless sudo on a Debian-like system); elsewhere the demo falls back to amqtt, and the tests that need them say what is missing.
PATH="$PATH:/usr/sbin:/usr/local/sbin"

missing=""
command -v mosquitto >/dev/null 2>&1 || missing="mosquitto"
command -v qemu-x86_64 >/dev/null 2>&1 || missing="$missing qemu-user"
command -v gcc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
command -v valgrind >/dev/null 2>&1 || missing="$missing valgrind"
missing="${missing# }"
[ -z "$missing" ] && exit 0

without="without mosquitto the demo uses amqtt, without qemu-user the emulator is compared with this CPU only"
without="$without; compiled models are tested on fewer machines"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "$missing: not installed, and this system has no apt-get; $without"
    exit 0
fi
if [ "$(id -u)" = 0 ]; then run=""; elif sudo -n true 2>/dev/null; then run="sudo -n"; else
    echo "$missing: not installed, and installing it needs root; $without"
    exit 0
fi
echo "installing $missing with apt-get"
$run apt-get update -qq || echo "apt-get update failed; trying with the lists that are here"
for package in $missing; do
    $run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
        echo "$package: apt-get could not install it; $without"
done
exit 0
