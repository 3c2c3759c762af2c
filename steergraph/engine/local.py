"""The engine in this process: a queue in front of one model, and one thread that owns it.

Knows jobs and lifetimes. Knows nothing of agents or tasks. How a request is checked is `jobs`' business, how messages
become tokens `chat`'s, how steering becomes tensors `plans`', who goes next `scheduler`'s, how a batch runs `decode`'s.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Self, TypeVar

from steergraph.base.errors import InputError
from steergraph.engine.activations.texts import plain_median_norms
from steergraph.engine.cache.prefix_cache import PrefixCache
from steergraph.engine.decode.decoder import Counters, Decoder
from steergraph.engine.decode.jobs import CallJob, GenerationJob, Intake, Job
from steergraph.engine.decode.samples import Sample
from steergraph.engine.decode.scheduler import choose
from steergraph.engine.decode.text import AnswerText, Detokenizer, SpanWatch, hidden_tokens
from steergraph.engine.handle import LocalHandle, close_at_exit
from steergraph.engine.loading.chat import Chat
from steergraph.engine.loading.models import LoadedModel, load_model
from steergraph.engine.protocol import Completion, Directions, Message, ModelInfo, Named, Request, ScoreRequest, Scores
from steergraph.engine.scoring.jobs import Scoring
from steergraph.engine.steering.hooks import SteeringHooks
from steergraph.engine.steering.kl import spent_kl
from steergraph.engine.steering.plans import SteeringPlan, plan_steering
from steergraph.engine.steering.records import SpentKL, Steering

IDLE_SECONDS = 5.0
"""The worker thread ends after so long without work; the next request starts another."""
LOOKAHEAD = 8
"""Waiting requests that are looked at, beside two for each free place in the batch."""
CHUNK = 64
"""Prompt tokens in one forward where rows run alone: known prompts then begin where a forward would have."""
Done = TypeVar("Done")


class EngineClosed(RuntimeError):
    """The engine was closed before the request was done, or before it was made."""


class LocalEngine:
    """Implements `protocol.Engine`, its errors too, over a model in this process. Leaving it as a context closes it.

    **The model is changed** while a steered batch runs: the layers it steers carry a hook.
    """

    def __init__(
        self,
        model: LoadedModel | str,
        library: Named | None = None,
        *,
        max_batch: int = 16,
        deterministic: bool = False,
        prefix_bytes: int = 2**29,
        prefill_chunk: int | None = None,
        weights: str = "auto",
    ) -> None:
        """Load the model, if it is not.

        Args:
            model: a loaded one, or a name: "pocket", a folder, a GGUF file, a Hugging Face id.
            library: the vectors that it can switch on, by name; none by default.
            max_batch: rows that run together.
            deterministic: run every sample alone: the same tokens in whatever company, without the speed of batching.
            prefix_bytes: for the states of prompts, kept for later ones that begin in the same way; 0 keeps none.
            prefill_chunk: prompt tokens of a sample that go through the model at once; less needs less memory.
            weights: how a model that is loaded here holds them: auto, float32, float16 or bfloat16.

        Raises:
            InputError: there is no such model, it can't be loaded, or a number is out of range.
        """
        limits = (("max_batch", max_batch, 1), ("prefill_chunk", prefill_chunk, 1), ("prefix_bytes", prefix_bytes, 0))
        for name, value, least in limits:
            if value is not None and value < least:
                raise InputError(f"{name} {value}: at least {least}")
        self._loaded = load_model(model, weights=weights) if isinstance(model, str) else model
        self._library = {} if library is None else library
        self._max_batch = 1 if deterministic else max_batch
        self._chat = Chat(self._loaded.tokenizer)
        self._intake = Intake(self._loaded, self._chat)
        self.grammars = self._intake.grammars
        self._hidden = hidden_tokens(self._loaded.tokenizer)
        self._hooks = SteeringHooks(self._loaded.model)
        self._decoder = Decoder(
            self._loaded,
            self._hooks,
            max_rows=self._max_batch,
            prefixes=PrefixCache(prefix_bytes),
            chunk=prefill_chunk or (CHUNK if deterministic else None),
            tick=self._sweep,
        )
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None
        self._closing = False
        self._forget = close_at_exit(self)
        self._scoring = Scoring(self._loaded, self._hooks, self._plan, self._max_batch, self._decoder.counters)

    @property
    def counters(self) -> Counters:
        return self._decoder.counters

    @property
    def info(self) -> ModelInfo:
        return self._loaded.info

    @property
    def loaded(self) -> LoadedModel:
        """The model itself, for extraction. Whoever runs it holds `loaded.lock`, as activations are read."""
        return self._loaded

    @property
    def library(self) -> Named:
        return self._library

    @library.setter
    def library(self, library: Named) -> None:
        """Later requests see the new library; those already submitted keep theirs."""
        self._library = library

    def add_vectors(self, vectors: Mapping[str, Directions]) -> None:
        """Put `vectors` beside those of the library, in place of those with the same names."""
        self._library = {**self._library, **vectors}

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(self._chat.prompt(messages))

    def submit(self, request: Request) -> LocalHandle:
        job = self._intake.generation(request, self._library, self._sweep)
        self._enqueue([job])
        return job.handle

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`. All are checked before any is run; the first error is raised."""
        jobs = [self._intake.generation(request, self._library, self._sweep) for request in requests]
        self._enqueue(jobs)
        try:
            return [job.handle.result() for job in jobs]
        except BaseException:  # Ctrl-C too: nobody waits for the rest any more
            for job in jobs:
                job.handle.cancel()
            raise

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Scores in the order of `requests`. All are checked before any is run; the first error is raised."""
        jobs = [self._intake.scoring(request, self._library) for request in requests]
        self._enqueue(jobs)
        return [job.future.result() for job in jobs]

    def run(self, work: Callable[[], Done]) -> Done:
        """What `work` returns or raises, called in the thread that owns the model, between two steps of the batch."""
        job = CallJob(work)
        self._enqueue([job])
        done: Done = job.future.result()
        return done

    def close(self) -> None:
        """End: requests that wait or run fail with EngineClosed, the worker stops, the hooks come off the model."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            waiting, worker = list(self._queue), self._worker
            self._queue.clear()
            self._changed.notify_all()
        for job in waiting:
            job.fail(EngineClosed("the engine was closed"))
        if worker is not None and worker is not threading.current_thread():
            worker.join()
        self._hooks.remove()
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            if self._closing:
                raise EngineClosed("the engine was closed")
            self._queue.extend(jobs)
            if self._worker is None and jobs:
                self._worker = threading.Thread(target=self._work, name="steergraph-engine", daemon=True)
                self._worker.start()
            self._changed.notify_all()

    def _sweep(self) -> None:
        """Answer queued requests that were cancelled or whose time is up: a running batch does not delay them."""
        with self._changed:
            over = [job for job in self._queue if job.end_early(time.monotonic())]
            for job in over:
                self._queue.remove(job)

    # From here on everything runs in the worker's thread.

    def _work(self) -> None:
        while True:
            self._sweep()
            with self._changed:
                if not self._queue and not self._decoder.busy and not self._closing:
                    self._changed.wait(IDLE_SECONDS)
                if not self._queue and not self._decoder.busy:
                    self._worker = None
                    return
                scoring = self._scoring.take(self._queue)
                calls = [job for job in self._queue if isinstance(job, CallJob)]
                for call in calls:
                    self._queue.remove(call)
                ahead = [job for job in self._queue if isinstance(job, GenerationJob)]
            if scoring:
                self._decoder.pause()
                self._scoring.run(scoring)
            for call in calls:
                self._decoder.pause()
                call.run()
            self._decoder.admit(self._next_samples(ahead))
            self._decoder.step()

    def _next_samples(self, ahead: Sequence[GenerationJob]) -> list[Sample]:
        """What joins the batch now: samples that had to leave it, or else the oldest jobs and who fits with them."""
        free = self._decoder.free
        if not free:
            return []
        if self._decoder.resumed:
            return self._decoder.take_resumed()
        near = {sample: job for job in ahead[: 2 * free + LOOKAHEAD] if (sample := self._sample_of(job))}
        chosen = choose(list(near), self._decoder)
        with self._changed:
            # Some may have been answered in the meantime: they were cancelled, or their time was up.
            chosen = [sample for sample in chosen if near[sample] in self._queue]
            for sample in chosen:
                self._queue.remove(near[sample])
        return chosen

    def _sample_of(self, job: GenerationJob) -> Sample | None:
        try:
            job.sample = job.sample or self._sample(job)
        except Exception as error:
            job.fail(error)
            with self._changed:
                if job in self._queue:
                    self._queue.remove(job)
        return job.sample

    def _plan(self, steering: Steering | None, library: Named) -> SteeringPlan:
        if steering is None:
            return SteeringPlan()
        return plan_steering(steering, library, self.info, lambda layer: self.median_norms[layer])

    @cached_property
    def median_norms(self) -> list[float]:
        """The model's median residual norm by layer, for vectors that came without theirs. Measured when asked for."""
        return plain_median_norms(self._loaded)

    def _sample(self, job: GenerationJob) -> Sample:
        request, tokenizer = job.request, self._loaded.tokenizer
        return Sample(
            prompt=job.prompt,
            plan=self._plan(request.steering, job.library),
            sampling=request.sampling,
            seed=request.seed,
            answer=AnswerText(Detokenizer(tokenizer, self._hidden), request.stop, job.handle.feed),
            spans=SpanWatch(Detokenizer(tokenizer), request.suspend),
            room=min(request.sampling.max_new_tokens, self.info.window - len(job.prompt)),
            deadline=job.deadline,
            cancelled=lambda: job.handle.cancelled or self._closing,
            done=self._finisher(job),
            constraint=job.constraint,
        )

    def _finisher(self, job: GenerationJob) -> Callable[[Sample], None]:
        def finish(sample: Sample) -> None:
            try:
                if sample.error is not None:
                    job.fail(sample.error)
                elif self._closing and sample.finish == "cancelled" and not job.handle.cancelled:
                    job.fail(EngineClosed("the engine was closed"))
                elif job.measures_kl and sample.token_ids and sample.finish in ("stop", "length"):
                    measuring = CallJob(partial(self._answer_with_kl, job, sample))
                    measuring.on_error = job.fail
                    self._enqueue([measuring])
                else:
                    self._answer(job, sample)
            except Exception as error:
                job.fail(error)

        return finish

    def _answer(self, job: GenerationJob, sample: Sample, kl: SpentKL | None = None) -> None:
        job.handle.succeed(job.completion(sample, self._chat.opens_thinking(job.prompt), kl))

    def _answer_with_kl(self, job: GenerationJob, sample: Sample) -> None:
        kl = spent_kl(self._loaded, self._hooks, job.prompt, sample.token_ids, sample.plan, sample.suspended)
        self._answer(job, sample, kl)
