"""What an explanation proves, which is a matter of how the model's concepts read a photo."""

_PROVES = {
    "attention": (
        "This is a picture of attention, not a proof: it shows which patches the last layer's concept token reads "
        "from. By then every patch has already taken in something of all others, so a concept can know more than the "
        "part that it looks at."
    ),
    "regions": (
        "This is a guarantee, with its limit. A sub-code is computed from the pixels of its concept's region, where "
        "the map is not 0, and from nothing else: with the regions given, what lies outside cannot have had an "
        "influence on its bits, not on a single one. The limit: which patches make up a region is found from the "
        "whole photo, and what lies outside may have moved that. (Of birds, 4 concepts: when all but a region was "
        "blurred and regions were found anew, 94 % of its bits stayed.)"
    ),
}


def what_it_proves(read_out: str) -> str:
    """What explanations of a model say about its codes, in a few sentences.

    Args:
        read_out: `model.config.vision_config.read_out`.

    Raises:
        ValueError: if there is no such read-out.
    """
    if read_out not in _PROVES:
        raise ValueError(f"there is no read-out {read_out!r}; there are {', '.join(map(repr, _PROVES))}")
    return _PROVES[read_out]
