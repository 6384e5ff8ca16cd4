# Shared by ./run and ./test: find a Python, make .venv, install into it only what changed.

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "fluxsite needs Python 3.11 or newer, and there is none on the PATH." >&2
    echo "Install it (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python) and run this again," >&2
    echo "or name one: PYTHON=/path/to/python3.12 $0" >&2
    return 1
}

# prepare_environment FILE: FILE is a requirements file.
prepare_environment() {
    local requirements=$1 stamp=".venv/installed-$1" python
    if [ ! -x .venv/bin/python ]; then
        python=$(find_python)
        echo "Making .venv with $("$python" --version) ..."
        if ! "$python" -m venv .venv; then
            rm -rf .venv
            echo "Python's venv module is missing or broken. On Debian and Ubuntu: apt install python3-venv" >&2
            return 1
        fi
    fi
    # What was installed is kept as a copy: the install runs again when the files differ, or when it was cut short.
    if ! cat requirements.txt "$requirements" | cmp --silent - "$stamp"; then
        echo "Installing $requirements (the first time this takes some minutes) ..."
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
        cat requirements.txt "$requirements" > "$stamp"
    fi
}
