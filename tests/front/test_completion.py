"""What the Tab key completes, in the shells themselves."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from environment import HANG

# Each prints what "$2" is completed to, one a line, by the script in the file "$1".
ASK = {
    "bash": """
        source "$1"
        read -ra COMP_WORDS <<< "$2"
        [[ $2 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _shtab_sdtrt 2> /dev/null  # compopt complains that no completion is under way
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "fish": "source $argv[1]; complete -C $argv[2] | string split -f 1 \\t",
    # An interactive zsh, in which Ctrl-D lists; a word that is not ambiguous is completed in place.
    "zsh": """
        zmodload zsh/zpty
        zpty shell 'TERM=dumb zsh -f -i'
        zpty -w shell "PROMPT= RPROMPT=; autoload -Uz compinit; compinit -u -D; eval \\"\\$(cat $1)\\""
        zpty -w shell "zstyle ':completion:*' verbose no; setopt no_list_packed; LISTMAX=1000; print ready"
        zpty -r shell line $'*\\nready*'
        zpty -w -n shell "$2"$'\\t'
        sleep 1  # zsh shows no list while keys are waiting
        zpty -w -n shell $'\\x15exit\\n'
        while zpty -r shell line; do print -r -- ${line//[$'\\r\\b\\a']/ }; done
    """,
}
ASKED = [
    ("sdtrt ", {"encode", "decode", "engines", "completion"}),
    ("sdtrt enc", {"encode"}),
    ("sdtrt engines ", {"build", "list", "clean"}),
    ("sdtrt encode --method ", {"latents", "palette"}),
    ("sdtrt encode --target-p", {"--target-psnr"}),
    ("sdtrt encode -q 25 pho", {"photo.jpg"}),
    ("sdtrt decode -o pho", {"photo.jpg"}),
]
ALL = set().union(*(expected for _, expected in ASKED))


@pytest.mark.parametrize("shell", ASK)
def test_completion_script_completes_in_the_shell(
    shell: str, run_cli: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    done = run_cli("completion", shell)
    assert done.returncode == 0, done.stderr
    script = tmp_path / "script"
    script.write_bytes(done.stdout)
    (tmp_path / "photo.jpg").touch()
    for line, expected in ASKED:
        found = completed(shell, script, line)
        assert expected <= found, line
        assert not found & (ALL - expected - set(line.split())), line


def completed(shell: str, script: Path, line: str) -> set[str]:
    plain = {"bash": ["--norc"], "fish": ["--no-config"], "zsh": ["-f"]}[shell]
    name = [] if shell == "fish" else [shell]
    command = [shell, *plain, "-c", ASK[shell], *name, str(script), line]
    done = subprocess.run(
        command,
        cwd=script.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=HANG,
        check=False,
    )
    return set(done.stdout.split())
