"""Groups of inputs of the reward model, which a study leaves out to find what each is worth. Imports nothing."""

INPUT_GROUPS = {
    "id_memory": "embeddings of single items",
    "long_history": "all events but the latest ten",
    "attributes": "facets of items and how often the user met them: category, brand, price band, tags and the 18 attribute types",
    "transitions": "how often items followed each other in histories",
    "log_p": "the generator's log-probability in the ranking",
}
"""Group → its inputs."""

__all__ = ["INPUT_GROUPS"]
