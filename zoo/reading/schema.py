"""JSON Schemas of recipes and configs, for editors: ``python -m zoo.reading.schema`` writes configs/schemas/."""

import json
from pathlib import Path

from zoo.reading.library import MODELS

FOLDER = Path("configs/schemas")


def schemas() -> dict[str, str]:
    """Text of each schema by its file's name."""
    texts = {}
    for model in MODELS.values():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
        texts[f"{model.__name__.lower()}.schema.json"] = json.dumps(schema, indent=2, sort_keys=True) + "\n"
    return texts


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(FOLDER)
