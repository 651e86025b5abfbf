"""A study: one model, one prompt set, and every analysis of them. The way in for commands, scripts, reports, notebooks.

    study = neurons.Study("mini")        # nothing is loaded yet
    study.ranking().to_frame().head()    # builds the cache, once, and ranks from it
    study.circuit()                      # runs the model, loaded at most once

Nothing is computed here: each method says what is asked and under which name the result is kept; `computed` says how it
is computed. Imports inside the methods are for start-up time: a study of kept results loads no torch.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurons.study import computed
from neurons.study.ablated import Ablated
from neurons.types import NeuronId

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from neurons.circuit.graph import Circuit
    from neurons.circuit.results import CircuitStudy, PreActivation
    from neurons.circuit.search_results import Search
    from neurons.comparison.model_results import Comparison
    from neurons.comparison.results import Checks, Transfer
    from neurons.decomposition.results import MeasuredBehaviour
    from neurons.types import FileFormat
    from neurons.weights.results import Neighbours, NeuronStatistics, TextStudy

REPORTS = "reports"


class Study(Ablated):
    """Every analysis of one model on one prompt set. The arguments are those of `Opened`."""

    # --- behaviour ----------------------------------------------------------------------------------

    def behaviour(self, *, resample: bool = False) -> "MeasuredBehaviour":
        """Measure probability difference and cutoff sharpness, with the corrupted run's and the average distribution's.

        resample: also with the MLPs of the cached layers resample-ablated (runs the model).
        """
        from neurons.decomposition.measured import measured_behaviour, measured_rows
        from neurons.decomposition.results import MeasuredBehaviour

        runs = self._once("behaviour", lambda: measured_behaviour(self.cache, self.years))
        resampled = computed.resampled_mlps(self) if resample else {}
        prompts = len(measured_rows(self.cache, self.years))
        return MeasuredBehaviour(self.cache.model, self.years, prompts, runs, resampled)

    # --- effects, ranking, weights ------------------------------------------------------------------

    def effect(self, neuron: str | NeuronId, start_year: int) -> "Float[np.ndarray, '100']":
        """Return one neuron's direct effect on the 100 years at one start year, measured or not, in logits."""
        from neurons.decomposition.effects import LogitEffects

        return LogitEffects(self.activations, self.plan.years).of_array(neuron, start_year=start_year)

    def neuron_statistics(self) -> "NeuronStatistics":
        """Measure the weights of the cached layers' neurons over the whole vocabulary."""
        return self._keep("statistics", lambda: computed.statistics(self))

    def texts(self, neurons: Sequence[NeuronId]) -> "TextStudy":
        """Study vocabulary, strongest prompts and control prompts of these neurons; those of the last call are kept."""
        return self._keep(
            "text",
            lambda: computed.texts(self, neurons),
            fits=lambda kept: set(neurons) <= {one.neuron for one in kept.neurons},
        )

    def neighbours(self, neurons: Sequence[NeuronId]) -> "tuple[Neighbours, ...]":
        """Find the neurons of most similar input and output weights; those of the last call are kept."""
        return self._keep(
            "neighbours",
            lambda: computed.neighbours(self, neurons),
            fits=lambda kept: set(neurons) <= {one.neuron for one in kept},
        )

    # --- circuit ------------------------------------------------------------------------------------

    def circuit(
        self,
        *,
        search: "Search | None" = None,
        given: "Circuit | None" = None,
        prompts: int | None = None,
        random: int | None = None,
        clean_heads: bool = False,
    ) -> "CircuitStudy":
        """The circuit found, or the one given: how much it carries, roles, inputs of neurons.

        prompts: how many are run; random: random circuits of the same size to compare with; clean_heads: the circuit's
        heads keep their outputs of the clean run, as in the published evaluation. The last one found is kept.
        """
        from neurons.circuit.results import N_RANDOM, PROMPTS
        from neurons.circuit.search_results import Search

        wanted = search or Search(), prompts or PROMPTS, N_RANDOM if random is None else random, clean_heads
        return self._keep(
            "circuit",
            lambda: computed.circuit(self, given, *wanted),
            default=given is None,
            fits=lambda kept: kept.asked == wanted,
        )

    def inputs(self, neuron: str | NeuronId, *, prompts: int | None = None) -> "PreActivation":
        """Decompose a neuron's pre-activation at END, component by component."""
        from neurons.circuit.inputs import explain_neurons
        from neurons.circuit.paths import patching
        from neurons.circuit.results import PROMPTS

        self.plan.check_one_layout()
        (found,) = explain_neurons(patching(self.context(), prompts=prompts or PROMPTS), [neuron])
        return found

    # --- published values, other tasks, other models ------------------------------------------------

    def checks(self, sample: int | None = None) -> "Checks":
        """Replicate the published measurements; sample: prompts drawn from the published distribution."""
        from neurons.comparison.published import SAMPLE
        from neurons.task.sample import published_sample

        checkpoint, seed = self.plan.checkpoint, self.plan.settings.seed
        drawn = published_sample(checkpoint.tokenizer, size=sample or SAMPLE, seed=seed)
        return self._keep("check", lambda: computed.checks(self, drawn), fits=lambda kept: kept.n_prompts == len(drawn))

    def tasks(self, only: Sequence[str] | None = None, *, top: int | None = None) -> "Transfer":
        """Measure behaviour on other prompts, and whether the same neurons matter; top: most neurons ablated."""
        from neurons.study.side_by_side import transfer

        return transfer(self, only, top=top)

    def compare(self, *others: "Study") -> "Comparison":
        """Compare this model with others, at the start years that all of them have prompts of."""
        from neurons.study.side_by_side import compare

        return compare([self, *others])

    # --- pages --------------------------------------------------------------------------------------

    def neuron(self, neuron: str | NeuronId) -> dict[str, Any]:
        """Return everything about one neuron: the numbers of its page, as in report.json."""
        from neurons.study.pages import one_neuron

        return one_neuron(self, neuron)

    def report(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        neurons: Sequence[str | NeuronId] = (),
        top: int = 24,
        causal: bool = False,
        circuit: bool = False,
        text: str | os.PathLike[str] | None = None,
        figures: "FileFormat | None" = None,
        command: str | None = None,
    ) -> Path:
        """Write the report and return the path of its index.

        folder: the folder of reports, default `reports`; the report is a folder in it, named after the model. neurons:
        those with a page, default the `top` of the ranking. causal, circuit: also ablations, sets of neurons, routes,
        and the circuit (these run the model); where they were kept they are shown anyway. text: a text file on which
        the neurons with a page are checked for specificity. figures: a format in which each figure is also written for
        a paper. command: how to make the report again, as its pages show it.
        """
        from neurons.report.folder import place_of
        from neurons.report.report import write_report
        from neurons.study.pages import contents, python_command

        shown = contents(self, neurons, top=top, causal=causal, circuit=circuit, text=text)
        name = f"{self.plan.folder_name}-neurons" if neurons else self.plan.folder_name
        place = place_of(Path(folder or REPORTS), name, self.plan.checkpoint.fingerprint, self.note)
        command = command or python_command(self, causal=causal, circuit=circuit)
        with self.bars("writing the report") as progress:
            return write_report(shown, folder=place, command=command, figures=figures, progress=progress)
