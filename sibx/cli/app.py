"""``sibx app``: the workbench in the browser."""

import signal
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

from sibx._checks import require
from sibx.app import Network, Workbench, serve
from sibx.app.example_pictures import ExamplePictures
from sibx.cli.explain import BUNDLED, short_names
from sibx.cli.loading import Classifier, from_checkpoint, from_weights, load_data
from sibx.cli.question import USUAL_SIDE, find_normalization
from sibx.datasets import MaskedDataset
from sibx.models import about
from sibx.models.looking import Eye
from sibx.runs import named_device


def run(args: Namespace) -> int:
    """Load what the options name and serve the page until Ctrl-C, or until the process is asked to end."""
    networks = _networks(args)
    workbench = Workbench(
        networks=networks,
        data=_data(args, networks[0]),
        methods=tuple(args.methods),
        options=_words(dataset=args.dataset, root=args.root, split=args.split),
        out_dir=Path(args.out),
    )
    with suppress(KeyboardInterrupt), _ended_in_order(), serve(workbench, port=args.port) as address:
        print(f"{address}: the workbench; Ctrl-C ends it", flush=True)
        Event().wait()  # for ever
    return 0


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Take a request to end as Ctrl-C, so that dropped pictures are removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _networks(args: Namespace) -> tuple[Network, ...]:
    """Load the network, and the one that it is compared with; files are called by what tells them apart."""
    files = [path for path in (args.checkpoint, args.compare) if path]
    names = dict(zip(files, short_names(files), strict=True))
    found = []
    if args.checkpoint is None:
        key, weights = (args.model, args.weights) if args.model or args.weights else BUNDLED
        words = _words(model=key, weights=weights, num_classes=args.num_classes)
        found.append(_network(key, from_weights(key, weights, args.num_classes), words, args))
    for path in files:
        words = _words(checkpoint=path, model=args.model)
        found.append(_network(names[path], from_checkpoint(path, args.model), words, args))
    return tuple(found)


def _network(name: str, classifier: Classifier, words: tuple[str, ...], args: Namespace) -> Network:
    device, known = named_device(args.device), about(classifier.model)
    size = args.image_size or classifier.notes.get("image_size") or known.image_size or USUAL_SIDE
    model = classifier.model.to(device).eval()
    eye = Eye(model, device, find_normalization(classifier), size, classifier.output(args.output))
    return Network(name=name, eye=eye, classes=classifier.classes or known.classes, options=words)


def _data(args: Namespace, network: Network) -> MaskedDataset:
    """Return the pictures to pick from, normalized as the first network wants them."""
    if args.dataset is None:
        require(args.root is None, "root", "be given with --dataset", args.root)
        return ExamplePictures()
    return load_data(args, args.split or "test", args.image_size or network.eye.image_size, network.eye.normalization)


def _words(**options: str | int | None) -> tuple[str, ...]:
    """Return options as words of the command line; None = not given."""
    given = {name.replace("_", "-"): value for name, value in options.items() if value is not None}
    return tuple(word for name, value in given.items() for word in (f"--{name}", str(value)))
