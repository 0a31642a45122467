"""The Debian packages and fonts of the two sets of test images. The sets share no font and no file.

`apt-get download` fetches the packages and `dpkg-deb` unpacks them into a folder; nothing is installed. A fontconfig
file for each set excludes the fonts of the other set and of the machine.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

# By set and kind of image: package, colon, pattern of its files.
FILES = {
    "training": {
        "documents": (
            "python3.11-doc:usr/share/doc/python3.11/html/**/*.html",
            "git-doc:usr/share/doc/git-doc/**/*.html",
            "debian-reference-en:usr/share/debian-reference/*.en.html",
            "apache2-doc:usr/share/doc/apache2-doc/manual/en/**/*.html",
            "octave-doc:usr/share/doc/octave/**/*.html",
            "libglib2.0-doc:usr/share/gtk-doc/html/**/*.html",
            "gnuplot-doc:usr/share/doc/gnuplot/htmldocs/*.html",
            "libboost1.74-doc:usr/share/doc/libboost1.74-doc/**/*.html",
        ),
        "code": (
            "libpython3.11-stdlib:**/*.py",
            "linux-libc-dev:**/*.h",
            "perl-modules-5.36:**/*.pm",
            "golang-github-spf13-cobra-dev:**/*.go",
            "libjs-d3:**/d3.js",
            "librust-regex-dev:**/*.rs",
        ),
        "icons": (
            "papirus-icon-theme:usr/share/icons/Papirus/64x64/apps/*.svg",
            "tango-icon-theme:usr/share/icons/Tango/scalable/*/*.svg",
            "papirus-icon-theme:usr/share/icons/Papirus/48x48/[dmp]*/*.svg",
            "iso-flags-svg:usr/share/iso-flags-svg/country-4x3/[a-m]*.svg",
        ),
        "drawings": ("libboost1.74-doc:**/[pw]*_*.svg", "graphviz-doc:usr/share/doc/graphviz/examples/**/*.gv"),
    },
    "measuring": {
        "documents": (
            "postgresql-doc-15:usr/share/doc/postgresql-doc-15/html/*.html",
            "sqlite3-doc:usr/share/doc/sqlite3/**/*.html",
            "cmake-doc:usr/share/doc/cmake-data/html/**/*.html",
            "fontforge-doc:usr/share/doc/fontforge/[stu]*/**/*.html",
        ),
        "code": (
            "ruby-sinatra:**/*.rb",
            "python3-flask:**/*.py",
            "node-express:**/*.js",
            "libeigen3-dev:**/*.h",
            "php-twig:**/*.php",
        ),
        "icons": (
            "breeze-icon-theme:usr/share/icons/breeze/apps/48/*.svg",
            "openclipart-svg:usr/share/openclipart/svg/[aft]*/**/*.svg",
            "iso-flags-svg:usr/share/iso-flags-svg/country-4x3/[n-z]*.svg",
        ),
        "drawings": ("postgresql-doc-15:**/*.svg", "fontforge-doc:**/*.svg", "sqlite3-doc:**/*.svg"),
    },
}
# Minimum bytes of a file of each kind; shorter files are indices and stubs.
MIN_NBYTES = {"documents": 6000, "code": 3000, "icons": 400, "drawings": 600}

# Package of each font family. Related families are in one set: Carlito is Lato, Hack is DejaVu, Open Sans is Noto Sans.
TEXT_FONTS = {
    "training": {
        "DejaVu Sans": "fonts-dejavu-core",
        "DejaVu Serif": "fonts-dejavu-core",
        "Roboto": "fonts-roboto-unhinted",
        "Lato": "fonts-lato",
        "Carlito": "fonts-crosextra-carlito",
        "EB Garamond": "fonts-ebgaramond",
        "Cantarell": "fonts-cantarell",
        "PT Sans": "fonts-paratype",
        "PT Serif": "fonts-paratype",
        "Quicksand": "fonts-quicksand",
    },
    "measuring": {
        "Liberation Sans": "fonts-liberation2",
        "Liberation Serif": "fonts-liberation2",
        "Open Sans": "fonts-open-sans",
        "Inter": "fonts-inter",
        "Vollkorn": "fonts-vollkorn",
        "Gentium Book Basic": "fonts-sil-gentium-basic",
        "Caladea": "fonts-crosextra-caladea",
        "Cabin": "fonts-cabin",
        "Clear Sans": "fonts-clear-sans",
    },
}
CODE_FONTS = {
    "training": {
        "DejaVu Sans Mono": "fonts-dejavu-core",
        "Hack": "fonts-hack",
        "Fira Code": "fonts-firacode",
        "Anonymous Pro": "fonts-anonymous-pro",
        "PT Mono": "fonts-paratype",
    },
    "measuring": {
        "Liberation Mono": "fonts-liberation2",
        "JetBrains Mono": "fonts-jetbrains-mono",
        "Inconsolata": "fonts-inconsolata",
        "Go Mono": "fonts-go",
        "mononoki": "fonts-mononoki",
    },
}
MAPS = "python3-geopandas"  # contains the countries of Natural Earth

FONTS_CONF = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
{folders}
<match target="pattern"><edit name="rgba" mode="assign"><const>{rgba}</const></edit></match>
<match target="font"><edit name="rgba" mode="assign"><const>{rgba}</const></edit></match>
<cachedir>{cache}</cachedir>
<selectfont><rejectfont><glob>*.woff*</glob></rejectfont></selectfont>
{aliases}
</fontconfig>
"""
ALIAS = "<alias><family>{generic}</family><prefer>{families}</prefer></alias>"


def packages() -> list[str]:
    """Return the names of all packages."""
    files = {
        pattern.partition(":")[0] for kinds in FILES.values() for patterns in kinds.values() for pattern in patterns
    }
    fonts = {
        package for fonts in (TEXT_FONTS, CODE_FONTS) for families in fonts.values() for package in families.values()
    }
    return sorted(files | fonts | {MAPS})


def program(*names: str) -> str:
    """Return the path of the first of these programs that is installed; `SystemExit` if none is."""
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise SystemExit(f"none of {', '.join(names)} is on the path: apt-get install chromium graphviz")
    return path


def fetch(folder: Path) -> None:
    """Download the missing packages and unpack each into a folder of its name."""
    missing = [name for name in packages() if not (folder / name).is_dir()]
    if not missing:
        return
    print(f"fetching {len(missing)} Debian packages: {' '.join(missing)}")
    with tempfile.TemporaryDirectory() as downloads:
        try:
            # Without the installed packages, since their versions may be in no archive.
            subprocess.run(
                ["apt-get", "download", "--quiet", "-o", "Dir::State::status=/dev/null", *missing],
                cwd=downloads,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            message = f"{error}\nUnpack these packages by hand, each to {folder}/NAME: dpkg-deb -x FILE {folder}/NAME"
            raise SystemExit(message) from error
        for file in sorted(Path(downloads).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", file, folder / file.name.partition("_")[0]], check=True)


def fonts_conf(name: str, folder: Path, subpixels: str) -> Path:
    """Write a fontconfig file with the fonts of the set `name` only, and return its path.

    `subpixels` is the subpixel order of the screen, rgb or none.
    """
    text, code = TEXT_FONTS[name], CODE_FONTS[name]
    folders = sorted({folder.resolve() / package for package in (*text.values(), *code.values())})
    generic = {"sans": text, "sans-serif": text, "serif": text, "system-ui": text, "mono": code, "monospace": code}
    file = folder / f"{name}.{subpixels}.fonts.conf"
    file.write_text(
        FONTS_CONF.format(
            folders="\n".join(f"<dir>{path}</dir>" for path in folders),
            rgba=subpixels,
            cache=folder.resolve() / "fontconfig",
            aliases="\n".join(alias(name, list(families)) for name, families in generic.items()),
        )
    )
    return file


def alias(generic: str, families: list[str]) -> str:
    return ALIAS.format(generic=generic, families="".join(f"<family>{family}</family>" for family in families))
