"""What the sections of a report do not show, a sentence for each, by the section's title."""

from dataclasses import replace

from neurons.report.blocks import Page

LIMITS = {
    # the index
    "Finding": "that this description is the mechanism. Neurons held at it cannot respond to each other, and other sets"
    " of this size may recover as much.",
    "Greater-than behaviour": "which part of the model does it, or that it holds under other templates.",
    "Contrast by layer": "what a layer does through later ones: that is counted as theirs.",
    "Boosting and suppressing neurons": "which set it must be. The sum is certain, membership is not: neurons can stand"
    " in for each other.",
    "Attribution before END": "an exact division: frozen attention patterns hide what moves attention.",
    "How many are enough": "that a sufficient set is the mechanism: its complement still runs at some year's"
    " activations, and another set of the same size may do as much.",
    "Clusters and composition": "what single neurons compute: a family of curves describes a mean.",
    # a neuron
    "Tuning and readout": "what the neuron does through later neurons and the final LayerNorm's scale: a readout is of"
    " its own write alone.",
    "Place in the tiling": "that its neighbours do the same; the exchange test of the page Composition asks whether"
    " they can stand in for each other.",
    "Faithfulness of its own description": "what all descriptions together recover, which is on the page Composition:"
    " small losses of many neurons add up.",
    "Share and direct effect": "what ablating the neuron alone would change: others can stand in for it.",
    "Direct effect by start year and digit": "effects through later neurons, and what single prompts do: curves are"
    " averages.",
    "Direct effect on the vocabulary": "whether the neuron is ever active: these are its weights.",
    "Strongest and weakest prompts": "a measurement: a few prompts illustrate.",
    "Activation on control prompts": "other nouns and centuries: two nouns of one century illustrate.",
    "Similar neurons": "similar activations on these prompts: similar weights do not imply them, nor the reverse.",
    "Specificity on a text": "what this text does not contain: a longer one can only find more.",
    "Effect of ablation": "what the neuron writes where others make up for it, or what it does before END.",
    "Components of the pre-activation": "how the components came to be: each is one step back.",
    # composition
    "Tuning and readout by tuning centre": "that each neuron is needed at its place: the exchange test asks that.",
    "Exchange of tuning curves": "neurons outside the set, and responses of neurons to each other: all are held.",
    "Faithfulness of descriptions": "that a description which recovers everything is the mechanism, or that one which"
    " recovers little is wrong about most neurons.",
    "Sums of the first neurons": "that no other order recovers more with fewer.",
    "Regression on named shapes": "that the terms are what the model computes: a map is described.",
    "Routes to the answer": "whole paths: an edge ends at the first neuron that reads, and everything further counts to"
    " it.",
    # clusters
    "Clusters or a continuum": "that there is a continuum: a test that finds one mode proves none, and it looks at"
    " tuning alone.",
    "Contribution to the contrast": "indirect effects: contributions are direct.",
    "Similarity and effect maps": "distances to scale: two dimensions cannot hold them all.",
    # ablation
    "Reference values": "the spread over prompts and centuries: these are means.",
    "Effects of MLPs and attention heads": "work at earlier positions: END alone is ablated.",
    "Top-k curves": "that the first k are the only such set; their order is one of several.",
    "Effects of single neurons": "what a neuron writes where others make up for it: such effects add up to far less"
    " than the neurons do together.",
    "Direct logit attribution against ablation": "which of the two is right: they answer different questions.",
    # circuit
    "Graph": "effects below the threshold, which are many and small.",
    "Faithfulness and completeness": "that no smaller circuit does as much, or that every node is needed.",
    "Faithfulness by size": "the best circuit of each size: each method finds its own.",
    "Nodes": "effects of nodes together: each is patched by itself.",
    "Edges": "effects of edges together: each is patched by itself.",
    "Attention and direct effects of nodes": "what a head does with what it attends to; patterns are means.",
    "Neurons of its MLPs": "indirect paths: each neuron's direct path to the logits is patched.",
    "Inputs of the neurons": "changes of the LayerNorm's scale, which is held.",
}


def with_limits(page: Page) -> Page:
    """The page, each section with what it does not show."""
    sections = tuple(replace(one, limits=LIMITS.get(one.title, "")) for one in page.sections)
    return replace(page, sections=sections)
