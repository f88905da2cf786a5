"""How concepts read a photo: two ways, each a module of its own with the same methods.

`AttentionReadOut` is the published one: concept tokens join all tokens of the photo, and where they look is a picture
of their attention. With `RegionReadOut` a concept is computed from the patches of its region and from nothing else, so
that, the regions given, whatever lies outside cannot change its sub-code.

Notation as in `modeling_concepthash`; L patches that a concept may see.
"""

from typing import Any, Unpack, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.utils import TransformersKwargs

from .backbones import family_of
from .concept_layers import ConceptHashEncoder
from .configuration_concepthash import ConceptHashVisionConfig
from .regions import RegionHead, RegionStates, check_regions, region_features, seen_patches


class AttentionReadOut(nn.Module):
    """Concept tokens join all tokens of the photo and attend to whatever they like (paper, section 3)."""

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        self.num_prefix_tokens = family_of(config.backbone_config).num_prefix_tokens(config.backbone_config)
        self.start_at_cls = config.start_at_cls and self.num_prefix_tokens > 0

    def check_learned(self) -> None:
        """Nothing had to be learned before."""

    def find_regions(self, encoder: ConceptHashEncoder, tokens: Tensor, **kwargs: Any) -> Tensor:
        """There are none.

        Raises:
            ValueError: always.
        """
        raise ValueError("a model with read_out='attention' has no regions: its concepts see the whole photo")

    def frozen_states(
        self,
        encoder: ConceptHashEncoder,
        tokens: Tensor,
        regions: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Tensor:
        """`(B, P + N, d)`, the input of the first layer -> of that shape, the tokens that the concepts join.

        Raises:
            ValueError: if regions are given.
        """
        if regions is not None:
            self.find_regions(encoder, tokens)
        return encoder.before_concepts(tokens, **kwargs)

    def received(self, states: Any, dtype: torch.dtype) -> Tensor:
        """Frozen states that were kept elsewhere, in the model's dtype.

        Raises:
            ValueError: if they are not of this read-out.
        """
        if not isinstance(states, Tensor):
            raise ValueError("these frozen states are of read_out='regions', the model has read_out='attention'")
        return states.to(dtype)

    def token_scale(self, states: Tensor) -> Tensor:
        """Root mean square of each photo's patch tokens, `(B, 1, 1)`."""
        return states[:, self.num_prefix_tokens :].float().square().mean((1, 2), keepdim=True).sqrt()

    def forward(
        self,
        encoder: ConceptHashEncoder,
        states: Tensor,
        concept_tokens: Tensor,
        num_patches: int,
        all_tokens: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor]:
        """Run the layers from where the concept tokens are there.

        Args:
            encoder: with the layers.
            states: `(B, P + N, d)`, from `frozen_states`.
            concept_tokens: `(B, M, d)`.
            num_patches: N.
            all_tokens: see `ConceptHashEncoder.forward`.
            **kwargs: for the layers.

        Returns:
            The concepts `(B, M, d)` and the last layer's attention of them to the patches `(B, M, N)`.
        """
        num_concepts = concept_tokens.shape[1]
        if self.start_at_cls:
            concept_tokens = states[:, :1] + concept_tokens
        states = torch.cat([states, concept_tokens], dim=1)
        concepts, attentions = encoder(states, num_concepts, all_tokens, **kwargs)
        return concepts, attentions[..., self.num_prefix_tokens : -num_concepts]


class RegionReadOut(nn.Module):
    """Every concept reads the patches of its region, and nothing else.

    Regions are found by a first pass over the whole photo, through the bare backbone. In a second pass, from the first
    layer on, each region is a sequence by itself: the embeddings of its patches with their positions, and a CLS of its
    own, which becomes the concept token where the concepts join: `x_m = CLS_m + token_m`. A family without a CLS has
    the concept token alone. Registers are no part of the photo: each region has them.
    """

    def __init__(self, config: ConceptHashVisionConfig):
        super().__init__()
        self.config = config
        self.num_prefix_tokens = family_of(config.backbone_config).num_prefix_tokens(config.backbone_config)
        self.head = RegionHead(config)

    def check_learned(self) -> None:
        """Refuse to go on without regions.

        Raises:
            ValueError: if they have not been learned.
        """
        if not self.head.is_learned:
            raise ValueError(
                "this model has read_out='regions', and its regions have not been learned: call "
                "learn_regions(model, photos) before training"
            )

    def find_regions(
        self, encoder: ConceptHashEncoder, tokens: Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> Tensor:
        """`(B, P + N, d)`, the input of the first layer -> int64 `(B, M, L)`, see `seen_patches`."""
        logits = self.head(self.features(encoder, tokens, **kwargs))
        # of photos of another size as large a share
        most = -(-cast(int, self.config.region_patches) * logits.shape[1] // self.config.num_patches)
        return seen_patches(logits, most)

    def features(self, encoder: ConceptHashEncoder, tokens: Tensor, **kwargs: Unpack[TransformersKwargs]) -> Tensor:
        """`(B, P + N, d)`, the input of the first layer -> what the head reads, see `region_features`."""
        states = encoder.without_adapters(tokens, cast(list[int], self.config.region_layers), **kwargs)
        return region_features([each[:, self.num_prefix_tokens :] for each in states])

    def frozen_states(
        self,
        encoder: ConceptHashEncoder,
        tokens: Tensor,
        regions: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> RegionStates:
        """Tokens of each region where the concepts join them.

        Args:
            encoder: with the layers.
            tokens: `(B, P + N, d)`, the input of the first layer.
            regions: int64 `(B, M, L)`; default those that the model finds.
            **kwargs: for the layers.

        Raises:
            ValueError: if the regions given are none of these photos.
        """
        if regions is None:
            regions = self.find_regions(encoder, tokens, **kwargs)
        else:
            num_patches = tokens.shape[1] - self.num_prefix_tokens
            check_regions(regions, len(tokens), self.config.num_concepts, num_patches)
        prefix, patches = (
            each[:, None].expand(-1, self.config.num_concepts, -1, -1)
            for each in tokens.tensor_split([self.num_prefix_tokens], dim=1)
        )
        index = regions.clamp(min=0)[..., None].expand(-1, -1, -1, tokens.shape[-1])
        states = torch.cat([prefix, patches.gather(2, index)], dim=2).flatten(0, 1)
        states = encoder.before_concepts(states, **kwargs | {"attention_mask": self._mask(states, regions)})
        return RegionStates(states.unflatten(0, regions.shape[:2]), regions)

    def received(self, states: Any, dtype: torch.dtype) -> RegionStates:
        """Frozen states that were kept elsewhere, in the model's dtype.

        Raises:
            ValueError: if they are not of this read-out.
        """
        if isinstance(states, Tensor):
            raise ValueError("these frozen states are of read_out='attention', the model has read_out='regions'")
        tokens, regions = states
        return RegionStates(tokens.to(dtype), regions)

    def token_scale(self, states: RegionStates) -> Tensor:
        """Root mean square of the tokens of each region, `(B, M, 1)`: it must not know of other patches."""
        is_there = self._is_there(states.regions)[..., None]
        squares = torch.where(is_there, states.tokens.float().square(), 0).mean(-1, keepdim=True).sum(2)
        return (squares / is_there.sum(2)).sqrt()

    def forward(
        self,
        encoder: ConceptHashEncoder,
        states: RegionStates,
        concept_tokens: Tensor,
        num_patches: int,
        all_tokens: bool = False,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[Tensor, Tensor]:
        """Run the layers from where the concept tokens are there.

        Args:
            encoder: with the layers.
            states: from `frozen_states`.
            concept_tokens: `(B, M, d)`.
            num_patches: N.
            all_tokens: see `ConceptHashEncoder.forward`.
            **kwargs: for the layers.

        Returns:
            The concepts `(B, M, d)` and the last layer's attention of them to the patches `(B, M, N)`, 0 outside of
            their regions.
        """
        tokens, regions = states
        concepts = concept_tokens[:, :, None]
        if self.num_prefix_tokens:
            cls, tokens = tokens[:, :, :1], tokens[:, :, 1:]
            concepts = cls + concepts
        num_others = tokens.shape[2] - regions.shape[2]
        sequences = torch.cat([tokens, concepts], dim=2).flatten(0, 1)
        is_there = F.pad(regions >= 0, (num_others, 1), value=True).flatten(0, 1)
        kwargs["attention_mask"] = self._as_mask(sequences, is_there)
        concepts, attentions = encoder(sequences, 1, all_tokens, is_there=is_there, **kwargs)
        concepts, attentions = (each.squeeze(1).unflatten(0, regions.shape[:2]) for each in (concepts, attentions))
        maps = attentions.new_zeros(*regions.shape[:2], num_patches)
        return concepts, maps.scatter_add(2, regions.clamp(min=0), attentions[..., num_others:-1] * (regions >= 0))

    def _is_there(self, regions: Tensor) -> Tensor:
        """Which tokens of `RegionStates` are real, `(B, M, P + L)`."""
        return F.pad(regions >= 0, (self.num_prefix_tokens, 0), value=True)

    def _mask(self, states: Tensor, regions: Tensor) -> Any:
        return self._as_mask(states, self._is_there(regions).flatten(0, 1))

    def _as_mask(self, states: Tensor, is_there: Tensor) -> Any:
        """As the attention implementation wants it."""
        config = self.config.backbone_config
        return create_bidirectional_mask(config, states, is_there, allow_is_bidirectional_skip=False)


READ_OUTS: dict[str, type[AttentionReadOut] | type[RegionReadOut]] = {
    "attention": AttentionReadOut,
    "regions": RegionReadOut,
}
