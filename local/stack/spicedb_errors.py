"""Rebuilds the errors of a SpiceDB server from the texts that the embedded engine reports."""

import re

import grpc
from authzed.api.v1 import ErrorReason, Precondition
from google.protobuf import text_format
from google.rpc import error_details_pb2

# The engine writes a status as grpc-go does: "rpc error: code = NotFound desc = …". It spells Canceled with one l.
_STATUS = re.compile(r"rpc error: code = (?P<code>\S+) desc = (?P<description>.*)", re.DOTALL)
_CODES = {code.name.replace("_", ""): code for code in grpc.StatusCode} | {"CANCELED": grpc.StatusCode.CANCELLED}

_FAILED_PRECONDITION_TEXT = re.compile(r"unable to satisfy write precondition `(?P<precondition>.*)`", re.DOTALL)
# The names of the groups are the names of the metadata that a server sends.
_ERROR_TEXTS = {
    ErrorReason.ERROR_REASON_UNKNOWN_DEFINITION: re.compile(
        r"object definition `(?P<definition_name>[^`]+)` not found"
    ),
    ErrorReason.ERROR_REASON_UNKNOWN_RELATION_OR_PERMISSION: re.compile(
        r"relation/permission `(?P<relation_or_permission_name>[^`]+)` not found"
        r" under definition `(?P<definition_name>[^`]+)`"
    ),
    ErrorReason.ERROR_REASON_ATTEMPT_TO_RECREATE_RELATIONSHIP: re.compile(
        r"could not CREATE relationship `(?P<relationship>"
        r"(?P<resource_type>[^:`]+):(?P<resource_object_id>[^#`]+)#(?P<resource_relation>[^@`]+)"
        r"@(?P<subject_type>[^:`]+):(?P<subject_object_id>[^#`]+)(#(?P<subject_relation>[^`]+))?"
        r")`, as it already existed\..*"
    ),
    ErrorReason.ERROR_REASON_TOO_MANY_RELATIONSHIPS_FOR_TRANSACTIONAL_DELETE: re.compile(
        r"found more than (?P<limit>\d+) relationships to be deleted and partial deletion was not requested"
    ),
}


def status(text: str) -> tuple[grpc.StatusCode, str]:
    """The code and the description of an error. The code is UNKNOWN, as in grpc-go, if the text has none."""
    match = _STATUS.fullmatch(text)
    if not match:
        return grpc.StatusCode.UNKNOWN, text
    return _CODES.get(match["code"].upper(), grpc.StatusCode.UNKNOWN), match["description"]


def error_info(description: str) -> error_details_pb2.ErrorInfo | None:
    """The ErrorInfo that a server sends with this error, or None if the text is not enough to know it."""
    if match := _FAILED_PRECONDITION_TEXT.fullmatch(description):
        precondition = text_format.Parse(match["precondition"], Precondition())
        return _info(ErrorReason.ERROR_REASON_WRITE_OR_DELETE_PRECONDITION_FAILURE, _fields(precondition))
    for reason, pattern in _ERROR_TEXTS.items():
        if match := pattern.fullmatch(description):
            return _info(reason, match.groupdict(""))
    return None


def _info(reason: ErrorReason.ValueType, metadata: dict[str, str]) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=ErrorReason.Name(reason), domain="authzed.com", metadata=metadata)


def _fields(precondition: Precondition) -> dict[str, str]:
    """A precondition as a server writes it in ErrorInfo.metadata. Fields that the request left out are left out."""
    wanted = precondition.filter
    subject = wanted.optional_subject_filter
    fields = {
        "precondition_operation": Precondition.Operation.Name(precondition.operation),
        "precondition_resource_type": wanted.resource_type,
        "precondition_resource_id": wanted.optional_resource_id,
        "precondition_resource_id_prefix": wanted.optional_resource_id_prefix,
        "precondition_relation": wanted.optional_relation,
        "precondition_subject_type": subject.subject_type,
        "precondition_subject_id": subject.optional_subject_id,
        "precondition_subject_relation": subject.optional_relation.relation,
    }
    return {name: value for name, value in fields.items() if value}
