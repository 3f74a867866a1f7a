"""What a user would otherwise run: the same systems trained from padded raw waves, each epoch anew.

(a) Hugging Face ``Trainer``; (b) the loop of the official MSP-Podcast challenge baseline (``train_ft_dim_ser.py`` of
MSP-UTD/MSP-Podcast_Challenge). Written by us for comparison; nothing here is used by the benchmark.

Letters: b utterances, n samples, t frames or tokens, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from ser_bench.interface import Encoded
from ser_bench.pooling import pool
from ser_bench.training.loss import ccc_loss, concordance_per_column

OnStep = Callable[[], None]
"""Called after each optimiser step."""


class FromWaves(nn.Module):
    """A system with its convolutional encoder inside the forward, on a padded batch of waves with an attention mask.

    As a user of transformers writes it; everything after the convolutions is the system's own module, so that both
    sides have the same attention, pooling and head. The convolutions are frozen, and run without a graph.
    """

    def __init__(self, system: Any, *, python_pooling: bool = False) -> None:
        super().__init__()
        self.system = system
        self.python_pooling = python_pooling

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor,
        input_ids: Tensor | None = None,
        text_mask: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Predict [b, 3] from waves [b, n] and token ids [b, t]."""
        encoder = self.system.audio
        if encoder.normalise:  # over each utterance's own samples, as Wav2Vec2FeatureExtractor
            own = attention_mask.sum(1, keepdim=True)
            mean = input_values.sum(1, keepdim=True) / own
            centred = torch.where(attention_mask.bool(), input_values - mean, 0.0)
            input_values = centred / (centred.square().sum(1, keepdim=True) / own + 1e-7).sqrt()
        with torch.no_grad():
            frames = encoder.convolutions(input_values).transpose(1, 2)  # [b, t, c]
        lengths = attention_mask.sum(1)
        for kernel, stride in zip(encoder.config.conv_kernel, encoder.config.conv_stride, strict=True):
            lengths = (lengths - kernel) // stride + 1
        heard = self._encoded("audio", frames, lengths)
        read = None if input_ids is None or text_mask is None else self._encoded("text", input_ids, text_mask.sum(1))
        logits = self.system.predict(heard, read).float()
        return {"logits": logits} if labels is None else {"loss": ccc_loss(logits, labels), "logits": logits}

    def _encoded(self, modality: str, inputs: Tensor, lengths: Tensor) -> Tensor | Encoded:
        if not self.python_pooling:
            return self.system.encode(modality, inputs, lengths)
        encoded = getattr(self.system, modality)(inputs, lengths)
        each = []
        for row, length in enumerate(encoded.lengths):  # the baseline pools utterance by utterance
            own = encoded.hidden[row : row + 1, : int(length)]
            each.append(pool(self.system.pooling, own, torch.tensor([own.shape[1]], device=own.device)))
        return torch.cat(each)


class Waves(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Utterances as dictionaries; waves are read from wav files, unless they are all held in memory."""

    def __init__(
        self, paths: list[Path], ids: list[np.ndarray] | None, labels: np.ndarray, *, held: bool = False
    ) -> None:
        self.paths, self.ids, self.labels = paths, ids, labels
        self.held = [_read(path) for path in paths] if held else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return one utterance."""
        one = {
            "wave": _read(self.paths[number]) if self.held is None else self.held[number],
            "labels": self.labels[number],
        }
        return one if self.ids is None else one | {"ids": self.ids[number]}


def _read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def collated(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad waves and token ids, with masks."""
    waves, mask = _padded([one["wave"] for one in batch], torch.float32)
    found = {
        "input_values": waves,
        "attention_mask": mask,
        "labels": torch.from_numpy(np.stack([one["labels"] for one in batch])),
    }
    if "ids" in batch[0]:
        found["input_ids"], found["text_mask"] = _padded([one["ids"] for one in batch], torch.int64)
    return found


def _padded(arrays: list[np.ndarray], kind: torch.dtype) -> tuple[Tensor, Tensor]:
    longest = max(map(len, arrays))
    padded = torch.zeros(len(arrays), longest, dtype=kind)
    mask = torch.zeros(len(arrays), longest, dtype=torch.int64)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = torch.from_numpy(array)
        mask[row, : len(array)] = 1
    return padded, mask


def trainer(
    model: FromWaves,
    data: Waves,
    lengths: list[float],
    *,
    epochs: int,
    steps: int = -1,
    batch_size: int,
    learning_rate: float,
    grouped: bool,
    workers: int,
    cuda: bool,
    folder: Path,
    on_epoch: OnStep,
    on_step: OnStep,
) -> None:
    """(a): train by transformers' ``Trainer`` at its best honest settings.

    Reading in worker processes that stay; bfloat16 on a GPU; lengths known beforehand; torch's fused AdamW; no
    clipping, logging, evaluation, saving or look at the loss, which would each cost time.
    """
    import datasets
    import transformers

    # A dataset of the library's own, whose lengths its sampler reads; waves are read by the collator, in the workers.
    rows = datasets.Dataset.from_dict({"number": list(range(len(data))), "length": lengths})

    class Listener(transformers.TrainerCallback):  # type: ignore[misc]
        def on_epoch_begin(self, *given: Any, **named: Any) -> None:
            on_epoch()

        def on_step_end(self, *given: Any, **named: Any) -> None:
            on_step()

    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size,
        num_train_epochs=epochs,
        max_steps=steps,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        weight_decay=0.0,
        max_grad_norm=0.0,
        train_sampling_strategy="group_by_length" if grouped else "random",
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_drop_last=True,
        dataloader_pin_memory=cuda,
        bf16=cuda,
        use_cpu=not cuda,
        remove_unused_columns=False,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=1,
    )
    transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=lambda batch: collated([data[one["number"]] for one in batch]),
        callbacks=[Listener()],
    ).train()


def baseline(
    model: FromWaves,
    data: Waves,
    *,
    epochs: int,
    steps: int | None = None,
    batch_size: int,
    accumulation: int,
    learning_rate: float,
    cuda: bool,
    on_epoch: OnStep,
    on_step: OnStep,
) -> None:
    """(b): train by the official baseline's loop: random batches, padded; ``accumulation`` of them to a step.

    The CCC is each part's own, which is another loss than the batch's; what is compared is speed. Every part's three
    CCCs are brought to the host, as there.
    """
    device = torch.device("cuda" if cuda else "cpu")
    model.to(device).train()
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0.0, fused=True
    )
    scaler = torch.amp.GradScaler(device.type, enabled=cuda)
    half = torch.autocast(device.type, torch.float16) if cuda else nullcontext()
    for epoch in range(epochs):
        on_epoch()
        losses = np.zeros(3)
        for number, batch in enumerate(_random_batches(data, batch_size, epoch), start=1):
            there = {name: tensor.to(device) for name, tensor in batch.items()}
            labels = there.pop("labels")
            with half:
                logits = model(**there)["logits"]
            each = concordance_per_column(logits.float(), labels)
            loss = (1 - each).mean() / accumulation
            scaler.scale(loss).backward()
            for column in range(3):
                losses[column] += float(each[column].item())
            if number % accumulation == 0:
                scaler.step(optimiser)
                scaler.update()
                optimiser.zero_grad(set_to_none=True)
                on_step()
                if number == (steps or 0) * accumulation:
                    break


def _random_batches(data: Waves, batch_size: int, epoch: int) -> Iterator[dict[str, Tensor]]:
    order = np.random.default_rng(epoch).permutation(len(data))
    for first in range(0, len(order) // batch_size * batch_size, batch_size):
        yield collated([data[int(number)] for number in order[first : first + batch_size]])
