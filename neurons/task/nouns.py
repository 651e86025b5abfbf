"""Events and states that last: each one token with a leading space in GPT-2's vocabulary.

The list is our own. `prompts.year_spans` checks every noun against the tokenizer in use, so a word
that a model splits is left out by name, never used silently.
"""

NOUNS = tuple(
    """
    war siege famine plague drought revolt uprising rebellion revolution crisis recession depression
    boom strike truce peace alliance treaty occupation invasion campaign battle conflict feud dispute
    quarrel blockade embargo boycott reign rule regime dynasty empire kingdom republic monarchy
    government administration parliament ministry presidency exile imprisonment captivity voyage
    expedition journey pilgrimage crusade migration exploration search quest hunt construction
    reconstruction restoration renovation excavation settlement project program experiment study
    survey investigation trial inquiry debate negotiation conference festival exhibition tournament
    tour marriage engagement friendship partnership collaboration rivalry romance affair career
    lease contract mandate moratorium ban prohibition censorship curfew quarantine epidemic outbreak
    illness fever sickness recovery winter flood storm eruption era epoch movement tradition
    custom decline growth expansion stagnation inflation shortage prosperity slavery silence retreat
    insurgency terror persecution oppression unrest violence anarchy tenure supremacy
    struggle standoff
    """.split()
)
