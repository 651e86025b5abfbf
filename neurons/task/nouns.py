"""Nouns for the prompts: events and states that last, each a single token with a leading space in GPT-2's vocabulary.

The list is our own. `prompts.year_spans` checks every noun with the tokenizer in use; a word that the tokenizer
splits is left out and named, never used silently.
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

PRICED = tuple(
    """
    painting house ship horse diamond watch necklace ring piano carpet castle farm boat car coat sword
    statue clock guitar violin jewel gem crown computer camera machine engine bicycle motorcycle truck
    wagon carriage cow bull sheep ticket apartment mansion estate palace chair table sofa mirror lamp
    dress suit jacket bag book manuscript map globe telescope
    voyage expedition journey pilgrimage exploration search construction reconstruction renovation
    restoration excavation settlement project program experiment study survey investigation
    conference festival exhibition tournament tour lease contract campaign
    """.split()
)
"""Nouns that can have a price: things and undertakings, of which `mini` knows the words."""

OPENERS = tuple(
    """
    Clearly Obviously Indeed Thus Hence Therefore Surely Also Then Well Now Here Certainly Again Yet Still Moreover
    Finally Perhaps Similarly
    """.split()
)
"""First words of a statement."""

ALWAYS_SPLIT = tuple(f"{year}" for year in (*range(10, 30), *range(31, 36), *range(37, 40), 47, 52, 64, 68, 73, 79, 91))
"""Last two digits that GPT-2 has as a token of their own in each of the years 1100-1899."""

LATE_YEARS = tuple(f"{year:02d}" for year in range(99, 49, -1))
"""The first year of a sequence that begins in the 1500s and goes on with 1607."""
