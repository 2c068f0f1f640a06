"""The parsed definitions of state machines. Parsing takes longer than running, so each one is parsed once."""

import copy
from typing import Any

from moto.stepfunctions.parser.asl.component.common.timeouts.timeout import TimeoutSeconds
from moto.stepfunctions.parser.asl.component.program.program import Program
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

EXPRESS = "EXPRESS"
_EXPRESS_SECONDS = 300  # AWS ends an Express execution after five minutes, whatever its definition says


class Definitions:
    """What was parsed so far, for the machines of one server."""

    def __init__(self, time_scale: float) -> None:
        """`time_scale` multiplies the timeouts of machines."""
        self._time_scale = time_scale
        self._parsed: dict[str, Any] = {}
        self._programs: dict[tuple[str, str], Program] = {}

    def program(self, definition: str, machine_type: str) -> Program:
        """What runs. Executions share it, because running it does not change it. Raises InvalidDefinition."""
        key = (definition, machine_type)
        if key not in self._programs:
            program = copy.copy(self.parsed(definition))
            seconds = program.timeout_seconds.timeout_seconds if program.timeout_seconds else None
            if machine_type == EXPRESS:
                seconds = min(seconds or _EXPRESS_SECONDS, _EXPRESS_SECONDS)
            if seconds:
                program.timeout_seconds = TimeoutSeconds(seconds * self._time_scale)
            self._programs[key] = program
        return self._programs[key]

    def parsed(self, definition: str) -> Any:
        """The definition as moto parses it; machines of both types share it. Raises InvalidDefinition."""
        if definition not in self._parsed:
            try:
                self._parsed[definition] = AmazonStateLanguageParser.parse(definition)[0]
            except Exception:
                StepFunctionsParserBackend._validate_definition(definition)  # it raises moto's own error
                raise
        return self._parsed[definition]
