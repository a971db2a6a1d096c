"""Languages by any BCP-47 tag or FLORES code: English name, script, and the code that FLORES gives them.

Names and usual scripts are the Unicode CLDR's, by ``langcodes``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import langcodes

from mlprune.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Language:
    """A language as the package knows it.

    Args:
        code: Code as the user wrote it, such as ``fr``, ``pt-BR``, ``zh_Hant`` or ``wol_Latn``.
        name: English name, used as the label in demonstrations (``French: ...``).
        flores: ISO 639-3 code and script, as FLORES names the language's files.
        primary: The language alone, as ISO 639-1 code, or 639-3 where there is none.

    Example:
        >>> language("pt-BR")
        Language(code='pt-BR', name='Portuguese (Brazil)', flores='por_Latn', primary='pt')
    """

    code: str
    name: str
    flores: str
    primary: str

    @property
    def script(self) -> str:
        """ISO 15924 code of the script, such as ``Latn``."""
        return self.flores.partition("_")[2]

    @property
    def region(self) -> str | None:
        """ISO 3166 code of the region that the code names, such as ``BR``."""
        parts = self.code.replace("_", "-").split("-")[1:]
        return next((part for part in parts if re.fullmatch("[A-Z]{2}|[0-9]{3}", part)), None)

    @property
    def flores_codes(self) -> tuple[str, ...]:
        """The code of FLORES-200, and FLORES+'s where it is another."""
        iso3, _, script = self.flores.partition("_")
        return (self.flores, f"{PLUS[iso3]}_{script}") if iso3 in PLUS else (self.flores,)


PLUS = {"zho": "cmn", "est": "ekk", "tgl": "fil"}  # FLORES-200's code to FLORES+'s
PRIVATE = re.compile("q[a-t][a-z]")  # codes that ISO 639 leaves to everyone's own use
# Where a code stands for several languages, the one that FLORES has.
MEMBERS = {
    "ar": "arb", "ay": "ayr", "az": "azj", "din": "dik", "fa": "pes", "hbs": "hbs", "lv": "lvs", "mg": "plt",
    "mn": "khk", "ms": "zsm", "ne": "npi", "no": "nob", "om": "gaz", "or": "ory", "prs": "prs", "ps": "pbt",
    "qu": "quy", "sq": "als", "sw": "swh", "tl": "tgl", "uz": "uzn", "yi": "ydd", "zh": "zho",
}  # fmt: skip
OTHER_CODES = {code: primary for primary, code in MEMBERS.items() if primary != "no"} | {
    "cmn": "zh",
    "ekk": "et",
    "fil": "tl",
}
# Usual scripts that differ from CLDR's, or that it does not know
SCRIPTS = {
    "acm": "Arab", "acq": "Arab", "ajp": "Arab", "azb": "Arab", "crh": "Latn", "egy": "Latn", "got": "Latn",
    "grc": "Grek", "hbo": "Hebr", "hyw": "Armn", "ko": "Hang", "orv": "Cyrl", "ota": "Latn", "prs": "Arab",
    "tzm": "Tfng", "xcl": "Armn", "xpg": "Grek",
}  # fmt: skip
# Names that are better known than CLDR's, or without what tells them from others
NAMES = {
    "bn": "Bengali", "bor": "Bororo", "hbs": "Serbo-Croatian", "kg": "Kikongo", "kxh": "Karo", "luo": "Luo",
    "prs": "Dari", "tl": "Tagalog",
}  # fmt: skip


@cache
def language(code: str) -> Language:
    """Look a language up by its code.

    Args:
        code: BCP-47 tag such as ``fr``, ``pt-BR`` or ``sr-Latn`` (``sr_Latn`` is the same), or a FLORES code such as
            ``wol_Latn``. Tags of private use, such as ``x-dialect``, are named by themselves.

    Raises:
        UserError: If it is none.

    Example:
        >>> language("sw").name, language("wol_Latn").name, language("zh-Hant").flores
        ('Swahili', 'Wolof', 'zho_Hant')
        >>> language("french")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: language 'french' is not known; give an ISO 639-1 code such as 'fr'
    """
    tag = code.replace("_", "-")
    try:
        parsed = langcodes.Language.get(tag)
        if tag.lower().startswith("x-") or PRIVATE.fullmatch(tag):
            return Language(code, code, "", code)
        if not parsed.is_valid():
            raise ValueError(f"'{tag}' is not registered")
        if tag != (written := usual_tag(tag)):  # so that en-fr is two languages, and en-FR one
            raise UserError(f"language '{code}' is not known; did you mean '{written}'?")
    except UserError:
        raise
    except ValueError as error:  # langcodes' own errors are ValueErrors
        raise UserError(f"language '{code}' is not known{_hint(code)}") from error
    given = tag.split("-")[0].lower()
    primary = OTHER_CODES.get(given) or (given if given in MEMBERS else str(parsed.language))
    if primary != parsed.language:
        parsed = langcodes.Language.make(primary, script=parsed.script)  # without the region that it stands for
    usual = SCRIPTS.get(primary) or parsed.update_dict({"script": None}).maximize().script or "Latn"
    script = parsed.script or usual
    if script == usual:
        parsed = langcodes.Language.make(primary, territory=parsed.territory)
    name, alone = parsed.display_name(), langcodes.Language.make(primary).display_name()
    iso3 = MEMBERS.get(primary) or parsed.to_alpha3()
    return Language(code, name.replace(alone, NAMES.get(primary, alone)), f"{iso3}_{script}", primary)


def same_language(code: str, codes: Iterable[str]) -> list[str]:
    """Return which of some codes mean a language: itself, else those of its language and script, but for other regions.

    Example:
        >>> same_language("fr", ["fr-FR", "fr-CA", "fr"]), same_language("wo", ["wol_Latn", "sw"])
        (['fr'], ['wol_Latn'])
        >>> same_language("pt-BR", ["pt-PT"]), same_language("zh", ["zh-Hant"])
        ([], [])
    """
    codes = list(codes)
    if code in codes or not is_language(code):
        return [code] * (code in codes)
    tag = language(code)
    return [
        other
        for other in codes
        if is_language(other)
        and (language(other).flores, language(other).primary) == (tag.flores, tag.primary)
        and (tag.region is None or language(other).region in (None, tag.region))
    ]


def is_language(code: str) -> bool:
    """Return whether a code is a language's.

    Example:
        >>> is_language("sw"), is_language("klingon")
        (True, False)
    """
    try:
        language(code)
    except UserError:
        return False
    return True


def language_name(code: str) -> str:
    """Return a language's English name, or the code itself.

    Example:
        >>> language_name("sw"), language_name("klingon")
        ('Swahili', 'klingon')
    """
    return language(code).name if is_language(code) else code


def languages_of(text: str) -> list[str]:
    """Return the codes in a language, or in a pair with a hyphen between them, which either may have within it.

    Example:
        >>> languages_of("en-sw"), languages_of("zh-Hant-fr"), languages_of("pt-BR")
        (['en', 'sw'], ['zh-Hant', 'fr'], ['pt-BR'])
    """
    if is_language(text):
        return [text]
    parts = text.split("-")
    pairs = [["-".join(parts[:place]), "-".join(parts[place:])] for place in range(1, len(parts))]
    return next((pair for pair in pairs if all(map(is_language, pair))), parts)


def usual_tag(tag: str) -> str:
    """Return a tag in the usual letters.

    Example:
        >>> usual_tag("EN-us"), usual_tag("sr_latn")
        ('en-US', 'sr-Latn')
    """
    first, *rest = tag.replace("_", "-").split("-")
    cased = (part.title() if len(part) == 4 else part.upper() if len(part) == 2 else part.lower() for part in rest)
    return "-".join((first.lower(), *cased))


def _hint(code: str) -> str:
    try:
        found = str(langcodes.find(code))
        return f"; give {'an ISO 639-1' if len(found) == 2 else 'a'} code such as '{found}'"
    except LookupError:
        return did_you_mean(code, LISTED) or "; give a BCP-47 tag such as 'fr', 'pt-BR' or 'zh-Hant'"


# The languages of FLORES-200, Belebele and MultiBLiMP
_LISTED = """
af am ar az be bg bn ca ceb cs cy da de el en es et eu fa fi fr ga gl gu ha he hi hr ht hu hy id ig is it ja jv
ka kk km kn ko ky la lo lt lv mk ml mn mr ms my nb ne nl no pa pl pt qu ro ru si sk sl so sq sr sv sw ta te tg
th tl tr uk ur uz vi xh yo zh zu aeb acm acq ajp apc ar_Latn ars ary arz ace ace_Arab ak as ast awa ay azb ba bm
ban bem bho bjn bjn_Arab bn_Latn bo bs bug cjk ckb crh din dyu dz ee eo fj fo fon fur fuv gd gn hi_Latn hne ilo
kab kac kam kbp kea kg ki kmb kmr knc knc_Arab ks ks_Deva lb lg li lij lmo ln ltg lua luo lus mag mai mg mi min
min_Arab mni mos mt ne_Latn nn nqo nso nus ny oc om or pag pap prs ps rn rw sa sat sc scn sd sg shn si_Latn sm
sn ss st su szl taq taq_Tfng ti tk tn tpi ts tt tum tw tzm ug umb ur_Latn vec war wo yi yue zh_Hant ab aln apu
aqz azz bor br bua cu egy frm fro got grc hbo hbs hit hsb hyw koi kpv krl kxh mdf myv nds nhi olo orv ota pcm
quc sah se sms tpn ttc urb vep wbp xcl xnr xpg yrl
"""
LISTED = _LISTED.split()
