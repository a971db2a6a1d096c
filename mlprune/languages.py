"""One table of languages: ISO 639-1 code, English name (as demonstrations write it) and FLORES code."""

from dataclasses import dataclass

from mlprune.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Language:
    """A language as the package knows it.

    Args:
        code: ISO 639-1 code, or ISO 639-3 where no two-letter code exists.
        name: English name, used as the label in demonstrations (``French: ...``).
        flores: Code of the language's files in FLORES.

    Example:
        >>> language("fr").name
        'French'
    """

    code: str
    name: str
    flores: str


_TABLE = """
af Afrikaans afr_Latn|am Amharic amh_Ethi|ar Arabic arb_Arab|az Azerbaijani azj_Latn|be Belarusian bel_Cyrl
bg Bulgarian bul_Cyrl|bn Bengali ben_Beng|ca Catalan cat_Latn|ceb Cebuano ceb_Latn|cs Czech ces_Latn
cy Welsh cym_Latn|da Danish dan_Latn|de German deu_Latn|el Greek ell_Grek|en English eng_Latn
es Spanish spa_Latn|et Estonian est_Latn|eu Basque eus_Latn|fa Persian pes_Arab|fi Finnish fin_Latn
fr French fra_Latn|ga Irish gle_Latn|gl Galician glg_Latn|gu Gujarati guj_Gujr|ha Hausa hau_Latn
he Hebrew heb_Hebr|hi Hindi hin_Deva|hr Croatian hrv_Latn|ht Haitian_Creole hat_Latn|hu Hungarian hun_Latn
hy Armenian hye_Armn|id Indonesian ind_Latn|ig Igbo ibo_Latn|is Icelandic isl_Latn|it Italian ita_Latn
ja Japanese jpn_Jpan|jv Javanese jav_Latn|ka Georgian kat_Geor|kk Kazakh kaz_Cyrl|km Khmer khm_Khmr
kn Kannada kan_Knda|ko Korean kor_Hang|ky Kyrgyz kir_Cyrl|la Latin lat_Latn|lo Lao lao_Laoo
lt Lithuanian lit_Latn|lv Latvian lvs_Latn|mk Macedonian mkd_Cyrl|ml Malayalam mal_Mlym|mn Mongolian khk_Cyrl
mr Marathi mar_Deva|ms Malay zsm_Latn|my Burmese mya_Mymr|nb Norwegian_Bokmål nob_Latn|ne Nepali npi_Deva
nl Dutch nld_Latn|no Norwegian nob_Latn|pa Punjabi pan_Guru|pl Polish pol_Latn|pt Portuguese por_Latn
qu Quechua quy_Latn|ro Romanian ron_Latn|ru Russian rus_Cyrl|si Sinhala sin_Sinh|sk Slovak slk_Latn
sl Slovenian slv_Latn|so Somali som_Latn|sq Albanian als_Latn|sr Serbian srp_Cyrl|sv Swedish swe_Latn
sw Swahili swh_Latn|ta Tamil tam_Taml|te Telugu tel_Telu|tg Tajik tgk_Cyrl|th Thai tha_Thai|tl Tagalog tgl_Latn
tr Turkish tur_Latn|uk Ukrainian ukr_Cyrl|ur Urdu urd_Arab|uz Uzbek uzn_Latn|vi Vietnamese vie_Latn
xh Xhosa xho_Latn|yo Yoruba yor_Latn|zh Chinese zho_Hans|zu Zulu zul_Latn
"""

LANGUAGES: dict[str, Language] = {
    code: Language(code, name.replace("_", " "), flores)
    for code, name, flores in (entry.split() for entry in _TABLE.replace("\n", "|").split("|") if entry)
}


def language(code: str) -> Language:
    """Look a language up by its code.

    Args:
        code: ISO 639-1 code such as ``"fr"``.

    Raises:
        UserError: If the table has no such code.

    Example:
        >>> language("sw")
        Language(code='sw', name='Swahili', flores='swh_Latn')
        >>> language("french")
        Traceback (most recent call last):
        ...
        mlprune.errors.UserError: language 'french' is not known; give an ISO 639-1 code such as 'fr'
    """
    if code in LANGUAGES:
        return LANGUAGES[code]
    by_name = {entry.name.lower(): entry.code for entry in LANGUAGES.values()}
    if code.lower() in by_name:
        hint = f"; give an ISO 639-1 code such as '{by_name[code.lower()]}'"
    else:
        hint = did_you_mean(code, LANGUAGES) or f"; give one of {', '.join(LANGUAGES)}"
    raise UserError(f"language '{code}' is not known{hint}")
