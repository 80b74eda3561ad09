"""What Home Assistant is told so that it shows the cameras by itself: one device message with all their entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import reid_mtda


def discovery(topic: str, cameras: Sequence[str]) -> dict[str, Any]:
    """The message of MQTT discovery for a device: for each camera how many people, whether anybody, whether it works.

    Args:
        topic: what the service's topics begin with.
        cameras: names of the cameras.
    """
    own = topic.replace("/", "_")
    components: dict[str, Any] = {}
    for camera in cameras:
        works = [
            {"topic": f"{topic}/available"},
            {"topic": f"{topic}/{camera}/status"},
        ]
        person = {"state_topic": f"{topic}/{camera}/person", "availability": works, "availability_mode": "all"}
        components[f"{camera}_people"] = {
            "platform": "sensor",
            "name": f"{camera} people",
            "unique_id": f"{own}_{camera}_people",
            "state_class": "measurement",
            "unit_of_measurement": "people",
            **person,
        }
        components[f"{camera}_occupancy"] = {
            "platform": "binary_sensor",
            "name": f"{camera} occupancy",
            "unique_id": f"{own}_{camera}_occupancy",
            "device_class": "occupancy",
            "payload_on": "ON",
            "payload_off": "OFF",
            "value_template": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
            **person,
        }
        components[f"{camera}_status"] = {
            "platform": "binary_sensor",
            "name": f"{camera} status",
            "unique_id": f"{own}_{camera}_status",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "payload_on": "online",
            "payload_off": "offline",
            "state_topic": f"{topic}/{camera}/status",
            "availability": works[:1],
        }
    return {
        "device": {
            "identifiers": [own],
            "name": own,
            "manufacturer": "reid_mtda",
            "model": "person re-identification",
            "sw_version": reid_mtda.__version__,
        },
        "origin": {"name": "reid_mtda", "sw_version": reid_mtda.__version__},
        "components": components,
        "qos": 1,
    }
