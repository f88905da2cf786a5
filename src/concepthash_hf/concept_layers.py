"""The parts that ConceptHash is made of (paper section 3): adapted layers, concept tokens, hash head, classifiers.

Notation as in `modeling_concepthash`.
"""

from collections.abc import Sequence
from typing import Unpack, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.utils import TransformersKwargs

from .backbones import AdaptedLayer, family_of
from .configuration_concepthash import ConceptHashConfig, ConceptHashVisionConfig
from .configuration_hashing import HashingVisionConfig
from .losses import cosine_logits


class ConceptHashEncoder(nn.Module):
    """The backbone's layers: as they are before the concept tokens join, with adapters from there on."""

    def __init__(self, config: HashingVisionConfig):
        super().__init__()
        backbone, family = config.backbone_config, family_of(config.backbone_config)
        self.first_adapted_layer = first = config.first_adapted_layer
        layers = [family.layer(backbone) for _ in range(first)]
        layers += [family.adapted_layer(backbone, config.adapter_dim) for _ in range(first, config.num_hidden_layers)]
        self.layers = nn.ModuleList(layers)

    def before_concepts(self, hidden_states: Tensor, **kwargs: Unpack[TransformersKwargs]) -> Tensor:
        """`(B, P + N, d)` -> the tokens that the concepts join, of that shape."""
        for layer in self.layers[: self.first_adapted_layer]:
            hidden_states = layer(hidden_states, **kwargs)
        return hidden_states

    def without_adapters(
        self, hidden_states: Tensor, depths: Sequence[int], **kwargs: Unpack[TransformersKwargs]
    ) -> list[Tensor]:
        """Run the bare backbone.

        Args:
            hidden_states: `(B, P + N, d)`, the input of the first layer.
            depths: numbers of layers, ascending.
            **kwargs: for the layers.

        Returns:
            The tokens after each of these numbers of layers.
        """
        states = []
        for depth, layer in enumerate(list(self.layers)[: depths[-1]], start=1):
            bare = {"with_adapters": False} if isinstance(layer, AdaptedLayer) else {}
            hidden_states = layer(hidden_states, **kwargs, **bare)
            if depth in depths:
                states.append(hidden_states)
        return states

    def forward(
        self,
        hidden_states: Tensor,
        num_concepts: int,
        all_tokens: bool = False,
        is_there: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor]:
        """Run the layers from where the concept tokens are there.

        Args:
            hidden_states: `(B, P + N + M, d)`.
            num_concepts: M.
            all_tokens: let the last layer compute all tokens, which nothing but a record of hidden states needs.
            is_there: bool `(B, P + N + M)`, the tokens that may be attended to, beside the mask of that in `kwargs`;
                default all.
            **kwargs: for the layers.

        Returns:
            The concept tokens `(B, M, d)`, and the last layer's attention of them to all tokens `(B, M, P + N + M)`.
        """
        *others, last = list(self.layers)[self.first_adapted_layer :]
        for layer in others:
            hidden_states = layer(hidden_states, **kwargs)
        if not all_tokens:
            return last(hidden_states, last_tokens=num_concepts, is_there=is_there, **kwargs)
        attention = cast(AdaptedLayer, last).attention_of_last(hidden_states, num_concepts, is_there)
        return last(hidden_states, **kwargs)[:, -num_concepts:], attention


class ConceptPrompt(nn.Module):
    """Learned concept queries, refined by one small transformer block, as tokens of the vision transformer.

    They do not depend on the photo (paper section 3). The residual is `LN1(q)` while attention reads `q` itself.
    """

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        width = cast(int, config.prompt_dim)
        num_heads = config.prompt_num_heads
        while width % num_heads:
            num_heads //= 2
        self.queries = nn.Parameter(torch.randn(config.num_concepts, width))
        self.self_attn = nn.MultiheadAttention(width, num_heads, dropout=config.prompt_dropout, batch_first=True)
        self.layer_norm1 = nn.LayerNorm(width)
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.prompt_dropout)
        self.projection = nn.Linear(width, config.hidden_size)

    def forward(self) -> Tensor:
        """Give the concept tokens, `(M, d)`."""
        queries = self.queries.unsqueeze(0)
        attended, _ = self.self_attn(queries, queries, queries, need_weights=False)
        hidden = self.layer_norm1(queries) + attended
        hidden = self.layer_norm2(hidden) + self.fc2(self.dropout(F.relu(self.fc1(hidden))))
        return self.projection(hidden).squeeze(0)


class ConceptTokens(nn.Module):
    """Concept tokens that are parameters themselves."""

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.num_concepts, config.hidden_size))

    def forward(self) -> Tensor:
        """Give the concept tokens, `(M, d)`."""
        return self.queries


class ConceptHashHead(nn.Module):
    """Concept embeddings -> code logits: `v_m = W (z_m + E_m)`, then BatchNorm over the K logits.

    W is one hash function for all concepts (the paper's), or `W_m` of each concept's own. The concept specificity
    embedding E_m shifts v_m by a constant, which BatchNorm takes away again in training, so it has no effect on what
    is learned (its gradient is round-off). It is here because the paper's model has it.
    """

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        functions = 1 if config.shared_hash_function else config.num_concepts
        self.specificity = nn.Parameter(torch.randn(config.num_concepts, config.hidden_size))
        self.projection = nn.Linear(config.hidden_size, functions * config.bits_per_concept, bias=False)
        self.batch_norm = nn.BatchNorm1d(config.num_bits)

    def forward(self, concept_embeddings: Tensor) -> Tensor:
        """`(B, M, d)` -> code logits `(B, K)`, concept-major, in the dtype of the BatchNorm (float32)."""
        concepts = concept_embeddings + self.specificity
        bits_per_concept = self.batch_norm.num_features // concepts.shape[1]
        functions = self.projection.weight.unflatten(0, (-1, bits_per_concept))
        logits = torch.einsum("bmd,mkd->bmk", concepts, functions.expand(concepts.shape[1], -1, -1)).flatten(1)
        return self.batch_norm(logits.to(self.batch_norm.weight.dtype))


class ConceptHashTextProjection(nn.Module):
    """Class embeddings -> class centres in code space: `o_c = T2 ReLU(T1 e_c + .) + .`."""

    def __init__(self, width: int, num_bits: int):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, num_bits)

    def forward(self, class_embeddings: Tensor) -> Tensor:
        """`(C, t)` -> `(C, K)`."""
        return self.fc2(F.relu(self.fc1(class_embeddings)))


class ConceptClassifier(nn.Module):
    """Cosine classifier over single concepts, `cos(z_m + P_m, w_c)`; for training only."""

    def __init__(self, config: ConceptHashConfig):
        super().__init__()
        width = config.vision_config.hidden_size
        self.centroid_std = config.centroid_std
        self.position = nn.Parameter(torch.randn(config.num_concepts, width) * 0.02)
        self.centroids = nn.Parameter(self.new_centroids(config.num_labels, width))

    def new_centroids(self, num_classes: int, width: int) -> Tensor:
        """Random ones to start from, `(C, d)`."""
        return torch.randn(num_classes, width) * self.centroid_std

    def forward(self, concept_embeddings: Tensor) -> Tensor:
        """`(B, M, d)` -> float32 `(B, M, C)`."""
        return cosine_logits(concept_embeddings + self.position, self.centroids)
