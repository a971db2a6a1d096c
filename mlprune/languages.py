"""One table of languages: code, English name (as demonstrations write it) and ISO 639-3 code with script.

It holds the languages of FLORES-200, Belebele and MultiBLiMP.
"""

from dataclasses import dataclass

from mlprune.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Language:
    """A language as the package knows it.

    Args:
        code: ISO 639-1 code, or ISO 639-3 where no two-letter code exists; with the script where it is not the usual
            one, such as ``zh_Hant``.
        name: English name, used as the label in demonstrations (``French: ...``).
        flores: ISO 639-3 code and script, as FLORES names the language's files.

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
aeb Tunisian_Arabic aeb_Arab|acm Mesopotamian_Arabic acm_Arab|acq Taizzi-Adeni_Arabic acq_Arab
ajp South_Levantine_Arabic ajp_Arab|apc North_Levantine_Arabic apc_Arab|ar_Latn Romanized_Arabic arb_Latn
ars Najdi_Arabic ars_Arab|ary Moroccan_Arabic ary_Arab|arz Egyptian_Arabic arz_Arab|ace Acehnese ace_Latn
ace_Arab Acehnese_(Arabic_script) ace_Arab|ak Akan aka_Latn|as Assamese asm_Beng|ast Asturian ast_Latn
awa Awadhi awa_Deva|ay Aymara ayr_Latn|azb South_Azerbaijani azb_Arab|ba Bashkir bak_Cyrl|bm Bambara bam_Latn
ban Balinese ban_Latn|bem Bemba bem_Latn|bho Bhojpuri bho_Deva|bjn Banjar bjn_Latn
bjn_Arab Banjar_(Arabic_script) bjn_Arab|bn_Latn Romanized_Bengali ben_Latn|bo Tibetan bod_Tibt|bs Bosnian bos_Latn
bug Buginese bug_Latn|cjk Chokwe cjk_Latn|ckb Central_Kurdish ckb_Arab|crh Crimean_Tatar crh_Latn|din Dinka dik_Latn
dyu Dyula dyu_Latn|dz Dzongkha dzo_Tibt|ee Ewe ewe_Latn|eo Esperanto epo_Latn|fj Fijian fij_Latn|fo Faroese fao_Latn
fon Fon fon_Latn|fur Friulian fur_Latn|fuv Nigerian_Fulfulde fuv_Latn|gd Scottish_Gaelic gla_Latn|gn Guarani grn_Latn
hi_Latn Romanized_Hindi hin_Latn|hne Chhattisgarhi hne_Deva|ilo Ilocano ilo_Latn|kab Kabyle kab_Latn
kac Jingpho kac_Latn|kam Kamba kam_Latn|kbp Kabiye kbp_Latn|kea Kabuverdianu kea_Latn|kg Kikongo kon_Latn
ki Kikuyu kik_Latn|kmb Kimbundu kmb_Latn|kmr Northern_Kurdish kmr_Latn|knc Central_Kanuri knc_Latn
knc_Arab Central_Kanuri_(Arabic_script) knc_Arab|ks Kashmiri kas_Arab|ks_Deva Kashmiri_(Devanagari) kas_Deva
lb Luxembourgish ltz_Latn|lg Ganda lug_Latn|li Limburgish lim_Latn|lij Ligurian lij_Latn|lmo Lombard lmo_Latn
ln Lingala lin_Latn|ltg Latgalian ltg_Latn|lua Luba-Kasai lua_Latn|luo Luo luo_Latn|lus Mizo lus_Latn
mag Magahi mag_Deva|mai Maithili mai_Deva|mg Malagasy plt_Latn|mi Maori mri_Latn|min Minangkabau min_Latn
min_Arab Minangkabau_(Arabic_script) min_Arab|mni Meitei mni_Beng|mos Mossi mos_Latn|mt Maltese mlt_Latn
ne_Latn Romanized_Nepali npi_Latn|nn Norwegian_Nynorsk nno_Latn|nqo N'Ko nqo_Nkoo|nso Northern_Sotho nso_Latn
nus Nuer nus_Latn|ny Nyanja nya_Latn|oc Occitan oci_Latn|om Oromo gaz_Latn|or Odia ory_Orya|pag Pangasinan pag_Latn
pap Papiamento pap_Latn|prs Dari prs_Arab|ps Pashto pbt_Arab|rn Rundi run_Latn|rw Kinyarwanda kin_Latn
sa Sanskrit san_Deva|sat Santali sat_Olck|sc Sardinian srd_Latn|scn Sicilian scn_Latn|sd Sindhi snd_Arab
sg Sango sag_Latn|shn Shan shn_Mymr|si_Latn Romanized_Sinhala sin_Latn|sm Samoan smo_Latn|sn Shona sna_Latn
ss Swati ssw_Latn|st Southern_Sotho sot_Latn|su Sundanese sun_Latn|szl Silesian szl_Latn|taq Tamasheq taq_Latn
taq_Tfng Tamasheq_(Tifinagh) taq_Tfng|ti Tigrinya tir_Ethi|tk Turkmen tuk_Latn|tn Tswana tsn_Latn
tpi Tok_Pisin tpi_Latn|ts Tsonga tso_Latn|tt Tatar tat_Cyrl|tum Tumbuka tum_Latn|tw Twi twi_Latn
tzm Central_Atlas_Tamazight tzm_Tfng|ug Uyghur uig_Arab|umb Umbundu umb_Latn|ur_Latn Romanized_Urdu urd_Latn
vec Venetian vec_Latn|war Waray war_Latn|wo Wolof wol_Latn|yi Yiddish ydd_Hebr|yue Cantonese yue_Hant
zh_Hant Traditional_Chinese zho_Hant
ab Abkhazian abk_Cyrl|aln Gheg_Albanian aln_Latn|apu Apurinã apu_Latn|aqz Akuntsu aqz_Latn
azz Highland_Puebla_Nahuatl azz_Latn|bor Bororo bor_Latn|br Breton bre_Latn|bua Buryat bua_Cyrl
cu Church_Slavonic chu_Cyrl|egy Ancient_Egyptian egy_Latn|frm Middle_French frm_Latn|fro Old_French fro_Latn
got Gothic got_Latn|grc Ancient_Greek grc_Grek|hbo Ancient_Hebrew hbo_Hebr|hbs Serbo-Croatian hbs_Latn
hit Hittite hit_Latn|hsb Upper_Sorbian hsb_Latn|hyw Western_Armenian hyw_Armn|koi Komi-Permyak koi_Cyrl
kpv Komi-Zyrian kpv_Cyrl|krl Karelian krl_Latn|kxh Karo kxh_Latn|mdf Moksha mdf_Cyrl|myv Erzya myv_Cyrl
nds Low_German nds_Latn|nhi Zacatlán_Nahuatl nhi_Latn|olo Livvi olo_Latn|orv Old_East_Slavic orv_Cyrl
ota Ottoman_Turkish ota_Latn|pcm Nigerian_Pidgin pcm_Latn|quc K'iche' quc_Latn|sah Yakut sah_Cyrl
se Northern_Sami sme_Latn|sms Skolt_Sami sms_Latn|tpn Tupinambá tpn_Latn|ttc Tektiteko ttc_Latn|urb Ka'apor urb_Latn
vep Veps vep_Latn|wbp Warlpiri wbp_Latn|xcl Classical_Armenian xcl_Armn|xnr Kangri xnr_Deva|xpg Phrygian xpg_Grek
yrl Nheengatu yrl_Latn
"""

LANGUAGES: dict[str, Language] = {
    code: Language(code, name.replace("_", " "), flores)
    for code, name, flores in (entry.split() for entry in _TABLE.replace("\n", "|").split("|") if entry)
}


def language(code: str) -> Language:
    """Look a language up by its code.

    Args:
        code: Code such as ``"fr"``.

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
    others = {name.lower(): entry.code for entry in LANGUAGES.values() for name in (entry.name, entry.flores)}
    if code.lower() in others:
        hint = f"; give an ISO 639-1 code such as '{others[code.lower()]}'"
    else:
        hint = did_you_mean(code, LANGUAGES) or "; give a code such as 'fr' (ISO 639-1, or 639-3 where there is none)"
    raise UserError(f"language '{code}' is not known{hint}")
