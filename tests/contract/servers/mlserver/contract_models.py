"""The two models that the contract tests ask for, as MLServer runtimes. MLServer's own numpy codec does the rest."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import MLServerError
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


def check(model: MLModel, payload: InferenceRequest) -> None:
    """Refuse what does not fit the model's metadata; MLServer leaves that to its runtimes."""
    specs = {spec.name: spec for spec in model.inputs or ()}
    given = [tensor.name for tensor in payload.inputs]
    if sorted(given) != sorted(specs):
        raise MLServerError(f"inputs {given}, expected each of {list(specs)} once", 400)
    for tensor in payload.inputs:
        spec = specs[tensor.name]
        fits = len(tensor.shape) == len(spec.shape) and tensor.shape[0] > 0 and tensor.shape[1:] == spec.shape[1:]
        if tensor.datatype != spec.datatype or not fits:
            raise MLServerError(f"{tensor.name}: {tensor.datatype} {tensor.shape[:16]} does not fit the model", 400)
        try:
            elements = np.array(list(tensor.data)).size
        except ValueError as error:
            raise MLServerError(f"{tensor.name}: its data is ragged", 400) from error
        if elements != tensor.shape[0] * tensor.shape[1]:
            raise MLServerError(f"{tensor.name}: {elements} elements do not fill {tensor.shape}", 400)
    known = [spec.name for spec in model.outputs or ()]
    wanted = [output.name for output in payload.outputs or ()]
    if len(set(wanted)) < len(wanted) or not set(wanted) <= set(known):
        raise MLServerError(f"outputs {wanted}; the model has {known}, each of which may be asked for once", 400)


class Digits(MLModel):  # type: ignore[misc]
    """`image FP32 [-1, 64] -> scores FP32 [-1, 10]`: a softmax over sums, without weights to load."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        check(self, payload)
        images = NumpyCodec.decode_input(payload.inputs[0])
        logits = images.reshape(len(images), 64)[:, :60].reshape(-1, 10, 6).sum(axis=2)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return InferenceResponse(
            model_name=self.name, model_version=self.version, outputs=[NumpyCodec.encode_output("scores", scores)]
        )


class Echo(MLModel):  # type: ignore[misc]
    """`in_<datatype> -> out_<datatype>` for each input that comes."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        check(self, payload)
        wanted = {output.name for output in payload.outputs or ()}
        outputs = [
            ResponseOutput(
                name=tensor.name.replace("in_", "out_", 1),
                datatype=tensor.datatype,
                shape=tensor.shape,
                data=tensor.data,
            )
            for tensor in payload.inputs
        ]
        kept = [output for output in outputs if not wanted or output.name in wanted]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=kept)
