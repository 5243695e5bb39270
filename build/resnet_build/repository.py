"""The files of a model repository: configs, labels and Python models around the exported artifacts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from resnet_client.named_configs import GPU, LOCAL, TUNED, models_with, named_config
from resnet_client.preprocessing import PreprocessConfig
from resnet_client.requests import BACKBONE

from resnet_build import backbone, configs, gpu, manifest, python_models
from resnet_build.network import IMAGENET_CLASSES
from resnet_build.publication import Publication, is_unfinished, publication
from resnet_build.serving_options import PLAIN, ServingOptions

DEFAULT_PREPROCESSING = PreprocessConfig(resize=232, crop=224)


@dataclasses.dataclass(frozen=True)
class Repository:
    """Everything that determines the files of a repository, except the artifacts.

    Attributes:
        root: its folder.
        labels: one text per class.
        preprocess_config: how images are preprocessed.
        serving: numbers for serving.
        gpu_options: options for GPU hosts.
        variants: networks that are served in addition to the default ones.
        default: the variant that ``resnet50`` uses, or ``onnx``.
        wire: type of the feature maps; None without a backbone.
    """

    root: Path
    labels: tuple[str, ...]
    preprocess_config: PreprocessConfig
    serving: ServingOptions
    gpu_options: gpu.GpuOptions
    variants: tuple[str, ...] = ()
    default: str = PLAIN
    wire: backbone.Wire | None = None

    def configs(self) -> dict[str, str]:
        """Every config, path in the repository → text.

        Models that every repository has keep the committed ``config.pbtxt``. If these weights and options need another
        config, it is the named config ``local``. The named config ``gpu`` is for GPU hosts.
        """
        local = self._rendered(self.serving)
        serving = gpu.serving(self.serving)
        for_gpu = gpu.adapt(self._rendered(serving), serving, self.gpu_options)
        default = {**for_gpu, **local, **configs.render_all(ServingOptions(), DEFAULT_PREPROCESSING, IMAGENET_CLASSES)}
        texts = {f"{model}/config.pbtxt": text for model, text in default.items()}
        for name, rendered in ((LOCAL, local), (GPU, for_gpu)):
            named = {model: text for model, text in rendered.items() if text != default[model]}
            texts |= {str(named_config(Path(), model, name)): text for model, text in named.items()}
        return texts

    def _rendered(self, serving: ServingOptions) -> dict[str, str]:
        labels = len(self.labels)
        rendered = configs.render_all(serving, self.preprocess_config, labels, self.variants, self.default)
        return rendered | (backbone.render(rendered, serving, self.wire) if self.wire else {})

    def is_complete(self) -> bool:
        """Whether every file except the artifacts exists; configs that were edited by hand count, too."""
        names = (*self.configs(), *self._other_texts(), *self._copied_files(), *self._version_folders())
        return not is_unfinished(self.root) and all((self.root / name).exists() for name in names)

    def publish(self, artifacts: Mapping[str, Path], record: manifest.Manifest) -> list[str]:
        """Write everything at once.

        Args:
            artifacts: path in the repository → file.
            record: the new manifest.

        Returns:
            The models whose tuned config was removed because it no longer fits.

        Raises:
            BuildError: the repository cannot be written.
        """
        with publication(self.root) as files:
            for name, source in {**artifacts, **self._copied_files()}.items():
                files.copy(name, source)
            for name in self._version_folders():
                files.folder(name)
            texts = self.configs()
            stale = self._remove_old_configs(files, texts)
            for name, text in {**texts, **self._other_texts()}.items():
                files.write(name, text)
            if not self._has_dali:
                for model in gpu.MODELS:
                    files.remove(model)  # of an earlier build: they would keep its labels and preprocessing
            if self.default == PLAIN:
                files.remove(configs.ensemble_of(PLAIN))  # of an earlier build, whose default model was a variant
            # The manifest is last, so that it describes only what exists.
            files.write(manifest.FILENAME, manifest.to_json(record))
        return stale

    @property
    def _has_dali(self) -> bool:
        return self.gpu_options.preprocessing == "dali"

    def _ensembles(self) -> dict[str, str]:
        return configs.ensembles(self.variants, self.default)

    def _other_texts(self) -> dict[str, str]:
        ensembles = self._ensembles()
        models = [*ensembles, *ensembles.values(), *([gpu.ENSEMBLE] if self._has_dali else [])]
        labels = "".join(f"{label}\n" for label in self.labels)
        texts = {f"{model}/{configs.LABELS_FILENAME}": labels for model in models}
        return texts | (gpu.model_files(self.preprocess_config, self.serving) if self._has_dali else {})

    def _copied_files(self) -> dict[str, Path]:
        files = {f"{configs.PREPROCESS}/1/{name}": path for name, path in python_models.preprocess_files().items()}
        return files | (gpu.files() if self._has_dali else {})

    def _version_folders(self) -> list[str]:
        """Version folders of the ensembles: Triton requires one, although it is empty."""
        more = [BACKBONE] * bool(self.wire) + [gpu.ENSEMBLE] * self._has_dali
        return [f"{ensemble}/1" for ensemble in (*self._ensembles(), *more)]

    def _remove_old_configs(self, files: Publication, texts: Mapping[str, str]) -> list[str]:
        """Remove named configs that this build does not write; return the models with a tuned config among them.

        A tuned config is a copy of a config that this build replaces, and its settings were measured with that one.
        """
        named = {str(named_config(Path(), m, name)) for name in (LOCAL, GPU) for m in models_with(self.root, name)}
        old = named - texts.keys()
        changed = old or not all(_has(self.root / path, text) for path, text in texts.items())
        stale = models_with(self.root, TUNED) if changed else []
        for path in (*old, *(str(named_config(Path(), model, TUNED)) for model in stale)):
            files.remove(path)
        return stale


def _has(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text
