"""Studies: many trainings compared, resumable, over seeds, shared by processes."""

from sibx.studies._preview import preview
from sibx.studies.closing import Outcome
from sibx.studies.job import Job
from sibx.studies.recipes import RECIPES, Recipe
from sibx.studies.running import run_study
from sibx.studies.study import Study
from sibx.studies.study_place import Place

__all__ = ["RECIPES", "Job", "Outcome", "Place", "Recipe", "Study", "preview", "run_study"]
