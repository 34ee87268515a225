"""Minimal pairs and questions of local files, without lm-evaluation-harness."""

import math
import statistics
from pathlib import Path
from typing import Any

from gptlab.corpus.continuations import encode_answers, encode_pairs, score_answers, score_pairs
from gptlab.corpus.task_files import Question, list_task_files, name_task, read_pairs, read_questions
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.model.decoder import Decoder


def evaluate_pairs(decoder: Decoder, tokenizer: Tokenizer, files: list[str], max_rows: int) -> dict[str, Any]:
    """Return the accuracy in the minimal pairs of each file, as metric=[minimal_pairs] measures it."""
    tasks = {}
    for file in list_task_files(files, "--pairs"):
        wins = score_pairs(decoder, encode_pairs(tokenizer, read_pairs(file), f"--pairs={file}"), max_rows)
        tasks[f"pairs/{name_task(file)}"] = _describe_task(file, len(wins), {"accuracy": (wins, "higher")})
    return tasks


def evaluate_questions(decoder: Decoder, tokenizer: Tokenizer, files: list[str], max_rows: int) -> dict[str, Any]:
    """Return bits per byte of right answers, as metric=[answer_bits] measures them, and the share of right choices.

    Of several choices that one is taken whose bits per byte are the fewest.
    """
    tasks = {}
    for file in list_task_files(files, "--questions"):
        questions = read_questions(file)
        texts = [(question.text, f" {choice}") for question in questions for choice in question.choices]
        scores = score_answers(decoder, encode_answers(tokenizer, texts, f"--questions={file}"), max_rows)
        bits, right = _judge_choices(questions, scores)
        measured = {"bits/byte": (bits, "lower"), **({"accuracy": (right, "higher")} if right else {})}
        tasks[f"questions/{name_task(file)}"] = _describe_task(file, len(questions), measured)
    return tasks


def _judge_choices(questions: list[Question], scores: list[float]) -> tuple[list[float], list[float]]:
    """Return the bits per byte of each right answer, and 1.0 for each question with several choices answered right."""
    bits, right, first = [], [], 0
    for question in questions:
        of_choices = scores[first : first + len(question.choices)]
        first += len(question.choices)
        bits.append(of_choices[question.right])
        if len(of_choices) > 1:
            right.append(float(of_choices.index(min(of_choices)) == question.right))
    return bits, right


def _describe_task(file: Path, count: int, measured: dict[str, tuple[list[float], str]]) -> dict[str, Any]:
    """Return the entry of a task: mean and standard error of each metric over its items."""
    metrics = {}
    for name, (values, better) in measured.items():
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        metrics[name] = {"value": statistics.fmean(values), "error": error, "better": better}
    return {"metrics": metrics, "documents": count, "of": count, "file": str(file)}
