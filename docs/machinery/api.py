"""The pages of the public names: one per package, of its facade, and one of ``sibx`` itself."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType

import sibx
from docs.machinery.markdown import first_line, page, plain, table

PAGE_OF = {  # tables that have a page of their own
    "METHODS": "../methods.md",
    "METRICS": "../metrics.md",
    "DATASETS": "../datasets.md",
    "MODELS": "../models.md",
    "TRAININGS": "../trainings.md",
    "GUIDANCE": "../guidance.md",
    "MASKS": "../mask_rules.md",
}


def api_pages() -> dict[str, str]:
    """Return the pages by name: ``sibx``, then its packages."""
    packages = {name: importlib.import_module(f"sibx.{name}") for name in package_names()}
    return {"sibx": _front(packages)} | {name: _package(name, module) for name, module in packages.items()}


def package_names() -> list[str]:
    """Return the names of the packages with public names."""
    names = [m.name for m in pkgutil.iter_modules(sibx.__path__) if m.ispkg and not m.name.startswith("_")]
    return [name for name in names if public_names(importlib.import_module(f"sibx.{name}"))]


def public_names(module: ModuleType) -> list[str]:
    """Return what a package's ``__all__`` names."""
    return list(getattr(module, "__all__", ()))


def _front(packages: dict[str, ModuleType]) -> str:
    """The names that ``import sibx`` gives, each with what it is."""
    rows = ((_link(name, _home(name, packages)), _what_it_is(name)) for name in public_names(sibx))
    return page(["# sibx", "What `import sibx` gives.", table(("name", "what it is"), rows)])


def _what_it_is(name: str) -> str:
    if name in PAGE_OF:
        return f"the table of [{name.lower()}]({PAGE_OF[name]})"
    return plain(first_line(getattr(sibx, name)))


def _home(name: str, packages: dict[str, ModuleType]) -> str:
    return next(home for home, module in packages.items() if name in public_names(module))


def _link(name: str, home: str) -> str:
    if name in PAGE_OF:
        return f"[`{name}`]({PAGE_OF[name]})"
    return f"{{py:obj}}`~sibx.{home}.{name}`"


def _package(name: str, module: ModuleType) -> str:
    summary = (inspect.getdoc(module) or "").split("\n\n")[0].replace("``", "`")
    documented = [n for n in public_names(module) if _directive(getattr(module, n))]
    others = [n for n in public_names(module) if n not in documented]
    parts = [f"# sibx.{name}", summary]
    if others:
        parts += ["Tables and constants:", "\n".join(_constant(n, getattr(module, n)) for n in others)]
    parts += [_entry(f"sibx.{name}.{n}", getattr(module, n)) for n in sorted(documented, key=_by_kind(module))]
    return page(parts)


def _by_kind(module: ModuleType) -> Callable[[str], tuple[bool, str]]:
    """Functions first, then classes, each by name."""
    return lambda name: (inspect.isclass(getattr(module, name)), name.lower())


def _directive(value: object) -> str | None:
    if inspect.isclass(value):
        return "autoclass"
    return "autofunction" if inspect.isfunction(value) else None


def _entry(path: str, value: object) -> str:
    return f"```{{eval-rst}}\n.. {_directive(value)}:: {path}\n```"


def _constant(name: str, value: object) -> str:
    if name in PAGE_OF:
        return f"- [`{name}`]({PAGE_OF[name]})"
    keys = f"keys {', '.join(value)}" if isinstance(value, dict) else str(value).replace("typing.", "")
    return f"- `{name}`: `{keys}`"
