"""How people write things: the same name, number, date or reference in many ways, and sometimes wrongly."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime
from decimal import Decimal
from random import Random

FIRST = """Anna Ben Carla David Elena Felix Greta Hans Ines Jonas Karla Lars Maria Nils Olga Paul Rosa Stefan Tina Uwe
Vera Wolf Yara Zoé Amélie Björn Chloé Dörte Émile François Günther Hélène Jürgen Käthe Léa Mónica Noël Özlem Renée Søren
Thérèse Ursula Victor Walter Marie Peter Julia Thomas Laura Michael Sofia Andreas Emma Martin Nora Simon Clara Oskar""".split()
LAST = """Müller Schmidt Schneider Fischer Weber Meyer Wagner Becker Schulz Hoffmann Schäfer Koch Bauer Richter Klein Wolf
Schröder Neumann Schwarz Zimmermann Braun Krüger Hofmann Hartmann Lange Werner Krause Lehmann Köhler Maier Walter König
Mayer Huber Kaiser Fuchs Peters Lang Scholz Möller Weiß Jung Hahn Schubert Vogel Friedrich Keller Günther Frank Berger
Winkler Roth Beck Lorenz Baumann Franke Albrecht Schuster Simon Ludwig Böhm Winter Kraus Martin Schumacher Krämer Vogt
Stein Jäger Otto Sommer Groß Seidel Heinrich Brandt Haas Schreiber Graf Dietrich Ziegler Kuhn Kühn Pohl Engel Horn Busch
Bergmann Thomas Voigt Sauer Arnold Wolff Pfeiffer O'Neill D'Angelo García Núñez Lefèvre Dubois Moreau Peña Larsen Nyström
Håkansson Castañeda Bérubé Smith Jones Taylor Brown Evans Walker White Wright Green Hall Clarke Hill""".split()
STREETS = """Station High Church Mill Park London Victoria Green Manor Kings Queens New Grange York Springfield George
Windsor Albert School Broad Chestnut Elm Oak Ash Willow Cedar Market Bridge River Castle Abbey Priory Orchard""".split()
STREET_KINDS = {"Street": ("St", "St.", "Str"), "Road": ("Rd", "Rd."), "Avenue": ("Av", "Ave."), "Lane": ("Ln", "La")}
TOWNS = """Aston Birch Corby Dover Epsom Frome Garth Hove Ilford Jarrow Kendal Leeds Melton Nairn Oakham Poole Reading
Selby Truro Upton Ventnor Wells Yeovil""".split()
NONE = ("", "", "", "", "-", "n/a", "NULL", "unknown", "?")  # how a file says that it does not know

DATES = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y%m%d", "%d-%m-%Y")
TIMES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S")
NUMBERS = ("1234.56", "1,234.56", "1.234,56", "1234,56", "€ 1.234,56", "1 234,56")


def plain(text: str) -> str:
    """Letters and digits only, small, without accents.

    >>> plain(" Müller-Lüdenscheidt, 07 ")
    'mullerludenscheidt07'
    """
    text = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ø", "o").replace("Ø", "O"))
    return re.sub(r"[^a-z0-9]", "", "".join(sign for sign in text if not unicodedata.combining(sign)).lower())


def digits(text: str) -> str:
    """The digits, without leading zeros; nothing where there is none.

    >>> digits("INV-00420"), digits("none")
    ('420', '')
    """
    return re.sub(r"\D", "", text).lstrip("0")


def unaccented(text: str) -> str:
    text = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ø", "o").replace("Ø", "O"))
    return "".join(sign for sign in text if not unicodedata.combining(sign))


def shouted(random: Random, text: str) -> str:
    return random.choice((text, text, text.upper(), text.lower(), text.title()))


def spaced(random: Random, text: str) -> str:
    """With white space that nobody sees."""
    return random.choice((text, text, text, f" {text}", f"{text} ", f"{text}  ", text.replace(" ", "  ", 1)))


def sloppy(random: Random, text: str) -> str:
    """Other case, other white space, here and there without its accents: the same to a person."""
    if random.random() < 0.15:
        text = unaccented(text)
    return spaced(random, shouted(random, text))


def mistyped(random: Random, text: str) -> str:
    """With one sign wrong: two swapped, one other, one too few."""
    if len(text) < 3:
        return text
    place = random.randrange(len(text) - 1)
    other = random.choice("0123456789" if text[place].isdigit() else "aeioursntl")
    swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return random.choice((swapped, text[:place] + other + text[place + 1 :], text[:place] + text[place + 1 :]))


def repunctuated(random: Random, text: str) -> str:
    """A reference with other signs between its parts, or none.

    >>> plain(repunctuated(Random(1), "INV-2024-00042"))
    'inv202400042'
    """
    return spaced(random, shouted(random, re.sub(r"[-/ ._]", random.choice(("-", "/", " ", "", ".", "_")), text)))


def lost(random: Random, share: float, none: str, text: str) -> str:
    """The text, or in a share of cases what the file says where it does not know."""
    return none if random.random() < share else text


def nothing(text: str) -> bool:
    """Whether a text is one of the ways to say nothing."""
    return text.strip() in NONE


def money(amount: Decimal, style: str) -> str:
    """An amount as one of NUMBERS.

    >>> [money(Decimal("1234.50"), style) for style in ("1,234.56", "1.234,56", "1 234,56", "€ 1.234,56", "1234,56")]
    ['1,234.50', '1.234,50', '1 234,50', '€ 1.234,50', '1234,50']
    """
    english = f"{amount:,.2f}"
    marks = {"1234.56": ("", "."), "1,234.56": (",", "."), "1.234,56": (".", ","), "1234,56": ("", ",")}
    thousands, point = marks.get(style.removeprefix("€ "), (" ", ","))
    text = english.replace(",", "\0").replace(".", point).replace("\0", thousands)
    return f"€ {text}" if style.startswith("€") else text


def cents(text: str) -> int | None:
    """An amount of two decimals in cents, without its sign."""
    found = re.sub(r"\D", "", text)
    return int(found) if found else None


def day(text: str, style: str) -> date | None:
    """A date as it was written; None where there is none."""
    try:
        return datetime.strptime(text.strip(), style).date()  # noqa: DTZ007 (a file says no zone)
    except ValueError:
        return None


def moment(text: str, style: str) -> datetime | None:
    """A time as it was written; None where there is none."""
    try:
        return datetime.strptime(text.strip(), style)  # noqa: DTZ007 (a file says no zone)
    except ValueError:
        return None
