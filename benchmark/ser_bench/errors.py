"""The errors a user can act on: each says what was given, what was expected, where, and what to do next."""


class SerBenchError(Exception):
    """A fault the user can act on; the command line prints its message as one line and exits with 1."""


class CorpusError(SerBenchError):
    """A release that cannot be read, or whose content would make a run wrong."""


class TranscriptError(SerBenchError):
    """Transcripts that are missing, of another release, or not allowed with the system that asks for them."""


class ConditionError(SerBenchError):
    """A degradation of the audio that is unknown, malformed, or lacks the noise it asks for."""


class PluginError(SerBenchError):
    """A plugin that is absent, broken, ambiguous, or breaks the contract."""


class WeightsError(PluginError):
    """Weights that are absent or do not fit the part they were given to."""


class StoreError(SerBenchError):
    """A frames store that cannot be written or read."""


class TrainingError(SerBenchError):
    """A training that cannot start or go on: unfit recipe, non-finite loss, out of memory, unusable checkpoint."""


class OtherProcessError(TrainingError):
    """Another process that trains with this one has ended; it says why."""


class ScoreError(SerBenchError):
    """Predictions or labels for which a score is not defined."""


class HubError(SerBenchError):
    """The Hugging Face hub cannot be reached, or refuses."""


class RecordError(SerBenchError):
    """A run folder or record that is missing, malformed, or contradicts what is asked of it."""


class SuiteError(SerBenchError):
    """A suite whose file is at fault, that cannot be started, or of which runs failed."""


class StudyError(SerBenchError):
    """A study that is asked for what it does not have, or whose runs are not all there."""
