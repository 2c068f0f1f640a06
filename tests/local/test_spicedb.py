"""The laptop's SpiceDB, used through the real authzed client."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from authzed.api.v1 import (
    CheckBulkPermissionsRequest,
    CheckBulkPermissionsRequestItem,
    CheckPermissionRequest,
    CheckPermissionResponse,
    Client,
    Consistency,
    DeleteRelationshipsRequest,
    ExpandPermissionTreeRequest,
    InsecureClient,
    LookupResourcesRequest,
    LookupSubjectsRequest,
    ObjectReference,
    Precondition,
    ReadRelationshipsRequest,
    ReadSchemaRequest,
    Relationship,
    RelationshipFilter,
    RelationshipUpdate,
    SubjectFilter,
    SubjectReference,
    SyncClient,
    WatchRequest,
    WriteRelationshipsRequest,
    WriteRelationshipsResponse,
    WriteSchemaRequest,
    experimental_service_pb2,
    permission_service_pb2,
    schema_service_pb2,
    watch_service_pb2,
)
from google.rpc import error_details_pb2, status_pb2
from grpcutil import insecure_bearer_token_credentials

from local.stack.process import StartError, accepts_connections
from local.stack.spicedb import _UNARY, LocalSpiceDB
from local.stack.spicedb_errors import status

ROOT = Path(__file__).parents[2]
SCHEMA = (ROOT / "schema/schedules.zed").read_text()
NOW = Consistency(fully_consistent=True)
SERVED = {
    *("WriteRelationships", "DeleteRelationships", "CheckPermission", "CheckBulkPermissions", "ExpandPermissionTree"),
    *("ReadRelationships", "LookupResources", "LookupSubjects", "ReadSchema", "WriteSchema", "Watch"),
}
METHODS = [
    (f"/{service.full_name}/{method.name}", method.name, method.client_streaming, method.server_streaming)
    for file in (permission_service_pb2, schema_service_pb2, watch_service_pb2, experimental_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.fixture(scope="module")
def spicedb() -> Iterator[LocalSpiceDB]:
    server = LocalSpiceDB(0, "local", SCHEMA)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(spicedb: LocalSpiceDB) -> Client:
    return InsecureClient(f"127.0.0.1:{spicedb.port}", "local")


@pytest.fixture
def name() -> str:
    """An id that no other test uses, so that tests can share the engine."""
    return uuid.uuid4().hex


def thing(text: str) -> ObjectReference:
    kind, _, object_id = text.partition(":")
    return ObjectReference(object_type=kind, object_id=object_id)


def relationship(text: str, expires: timedelta | None = None) -> Relationship:
    """`agent:a1#owner@user:alice` as a message."""
    resource, relation, subject = re.split("[#@]", text, maxsplit=2)
    result = Relationship(resource=thing(resource), relation=relation, subject=SubjectReference(object=thing(subject)))
    if expires is not None:
        result.optional_expires_at.FromDatetime(datetime.now(UTC) + expires)
    return result


def write(
    client: Client,
    *relationships: str | Relationship,
    only_if: Precondition | None = None,
    operation: RelationshipUpdate.Operation.ValueType = RelationshipUpdate.OPERATION_TOUCH,
    timeout: float = 5,
) -> WriteRelationshipsResponse:
    updates = [
        RelationshipUpdate(operation=operation, relationship=relationship(item) if isinstance(item, str) else item)
        for item in relationships
    ]
    request = WriteRelationshipsRequest(updates=updates, optional_preconditions=[only_if] if only_if else [])
    return client.WriteRelationships(request, timeout=timeout)


def everything_on(resource: str, relation: str = "") -> RelationshipFilter:
    kind, _, object_id = resource.partition(":")
    return RelationshipFilter(resource_type=kind, optional_resource_id=object_id, optional_relation=relation)


def nothing_on(resource: str, relation: str = "") -> Precondition:
    return Precondition(operation=Precondition.OPERATION_MUST_NOT_MATCH, filter=everything_on(resource, relation))


def stored(client: Client, resource: str) -> list[str]:
    found = client.ReadRelationships(
        ReadRelationshipsRequest(consistency=NOW, relationship_filter=everything_on(resource)), timeout=5
    )
    return sorted(f"{item.relationship.relation}@{item.relationship.subject.object.object_id}" for item in found)


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    """What a client finds in the error's details: the google.rpc.ErrorInfo, if there is one."""
    metadata = {item.key: item.value for item in error.trailing_metadata()}
    if "grpc-status-details-bin" not in metadata:
        return None
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


# The schema


def test_a_schedule_can_be_used_only_by_those_who_may_also_use_its_agent(client: Client, name: str) -> None:
    # Given an agent and a schedule, each with an owner, an editor and a viewer; and on the schedule alone, an owner
    schedule, agent = f"agent_schedule:{name}--nightly", f"agent:{name}"
    write(
        client,
        f"{schedule}#parent_agent@{agent}",
        *(f"{place}#{role}@user:{role}" for place in (schedule, agent) for role in ("owner", "editor", "viewer")),
        f"{schedule}#owner@user:stranger",
        f"{schedule}#owner@service_account:reader",
        f"{agent}#viewer@service_account:reader",
    )
    # When each asks for each permission
    items = [
        CheckBulkPermissionsRequestItem(
            resource=thing(place), permission=permission, subject=SubjectReference(object=thing(subject))
        )
        for place in (agent, schedule)
        for permission in ("read", "update", "delete")
        for subject in ("user:owner", "user:editor", "user:viewer", "user:stranger", "service_account:reader")
    ]
    response = client.CheckBulkPermissions(CheckBulkPermissionsRequest(consistency=NOW, items=items), timeout=5)
    allowed = {
        (pair.request.resource.object_type, pair.request.permission, pair.request.subject.object.object_id)
        for pair in response.pairs
        if pair.item.permissionship == CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION
    }
    # Then
    assert allowed == {
        *(("agent", "read", who) for who in ("owner", "editor", "viewer", "reader")),
        *(("agent", "update", who) for who in ("owner", "editor")),
        ("agent", "delete", "owner"),
        *(("agent_schedule", "read", who) for who in ("owner", "editor", "viewer", "reader")),
        *(("agent_schedule", "update", who) for who in ("owner", "editor")),
        ("agent_schedule", "delete", "owner"),
    }


def test_a_schedule_without_an_agent_can_be_used_by_nobody(client: Client, name: str) -> None:
    write(client, f"agent_schedule:{name}#owner@user:alice")
    response = client.CheckPermission(
        CheckPermissionRequest(
            consistency=NOW,
            resource=thing(f"agent_schedule:{name}"),
            permission="read",
            subject=SubjectReference(object=thing("user:alice")),
        ),
        timeout=5,
    )
    assert response.permissionship == CheckPermissionResponse.PERMISSIONSHIP_NO_PERMISSION


def test_a_lease_must_expire(client: Client, name: str) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        write(client, f"agent_schedule:{name}#creating@registration:r1")
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_lease_that_is_over_no_longer_counts_for_a_precondition_or_a_read(client: Client, name: str) -> None:
    # Given a lease that runs, and one that is over
    live, over = f"agent_schedule:{name}--live", f"agent_schedule:{name}--over"
    write(client, relationship(f"{live}#creating@registration:r1", timedelta(minutes=5)))
    write(client, relationship(f"{over}#creating@registration:r1", timedelta(seconds=-1)))
    # Then only the first is in the way of a write that asks for no lease
    with pytest.raises(grpc.RpcError):
        write(client, f"{live}#registered_by@registration:r2", only_if=nothing_on(live, "creating"))
    write(client, f"{over}#registered_by@registration:r2", only_if=nothing_on(over, "creating"))
    assert stored(client, live) == ["creating@r1"]
    assert stored(client, over) == ["registered_by@r2"]


# Errors


def test_a_failed_precondition_says_so_in_its_error_info(client: Client, name: str) -> None:
    write(client, f"agent_schedule:{name}#owner@user:alice")
    with pytest.raises(grpc.RpcError) as refusal:
        write(client, f"agent_schedule:{name}#owner@user:bob", only_if=nothing_on(f"agent_schedule:{name}", "owner"))
    assert refusal.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error_info(refusal.value) == error_details_pb2.ErrorInfo(
        reason="ERROR_REASON_WRITE_OR_DELETE_PRECONDITION_FAILURE",
        domain="authzed.com",
        metadata={
            "precondition_operation": "OPERATION_MUST_NOT_MATCH",
            "precondition_resource_type": "agent_schedule",
            "precondition_resource_id": name,
            "precondition_relation": "owner",
        },
    )
    assert stored(client, f"agent_schedule:{name}") == ["owner@alice"]


def test_a_delete_whose_fence_is_gone_deletes_nothing_and_names_the_fence(client: Client, name: str) -> None:
    # Given a schedule that r2 registered, and a fence that asks for r1
    write(client, f"agent_schedule:{name}#registered_by@registration:r2")
    fence = RelationshipFilter(
        resource_type="agent_schedule",
        optional_resource_id_prefix=name[:8],
        optional_relation="registered_by",
        optional_subject_filter=SubjectFilter(subject_type="registration", optional_subject_id="r1"),
    )
    # When
    with pytest.raises(grpc.RpcError) as refusal:
        client.DeleteRelationships(
            DeleteRelationshipsRequest(
                relationship_filter=everything_on(f"agent_schedule:{name}"),
                optional_preconditions=[Precondition(operation=Precondition.OPERATION_MUST_MATCH, filter=fence)],
            ),
            timeout=5,
        )
    # Then
    info = error_info(refusal.value)
    assert info
    assert dict(info.metadata) == {
        "precondition_operation": "OPERATION_MUST_MATCH",
        "precondition_resource_type": "agent_schedule",
        "precondition_resource_id_prefix": name[:8],
        "precondition_relation": "registered_by",
        "precondition_subject_type": "registration",
        "precondition_subject_id": "r1",
    }
    assert stored(client, f"agent_schedule:{name}") == ["registered_by@r2"]


@pytest.mark.parametrize(
    ("kind", "permission", "reason"),
    [
        ("nothing_known", "read", "ERROR_REASON_UNKNOWN_DEFINITION"),
        ("agent", "nothing_known", "ERROR_REASON_UNKNOWN_RELATION_OR_PERMISSION"),
    ],
)
def test_the_error_info_put_back_is_the_one_that_the_engine_itself_sends_where_it_can(
    client: Client, kind: str, permission: str, reason: str
) -> None:
    alice = SubjectReference(object=thing("user:alice"))
    # Given an error that a streaming call carries whole
    with pytest.raises(grpc.RpcError) as whole:
        next(
            client.LookupResources(
                LookupResourcesRequest(resource_object_type=kind, permission=permission, subject=alice), timeout=5
            )
        )
    # When a unary call fails for the same reason, and only its text comes out of the engine
    with pytest.raises(grpc.RpcError) as text:
        client.CheckPermission(
            CheckPermissionRequest(resource=thing(f"{kind}:a1"), permission=permission, subject=alice), timeout=5
        )
    # Then
    assert (text.value.code(), text.value.details()) == (whole.value.code(), whole.value.details())
    info = error_info(text.value)
    assert info
    assert info.reason == reason
    assert info == error_info(whole.value)


def test_writing_what_exists_already_is_already_exists(client: Client, name: str) -> None:
    write(client, f"agent:{name}#owner@user:alice")
    with pytest.raises(grpc.RpcError) as refusal:
        write(client, f"agent:{name}#owner@user:alice", operation=RelationshipUpdate.OPERATION_CREATE)
    assert refusal.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert error_info(refusal.value) == error_details_pb2.ErrorInfo(
        reason="ERROR_REASON_ATTEMPT_TO_RECREATE_RELATIONSHIP",
        domain="authzed.com",
        metadata={
            "relationship": f"agent:{name}#owner@user:alice",
            "resource_type": "agent",
            "resource_object_id": name,
            "resource_relation": "owner",
            "subject_type": "user",
            "subject_object_id": "alice",
            "subject_relation": "",
        },
    )


def test_an_error_that_the_text_does_not_explain_keeps_its_code_and_words_and_has_no_error_info(
    client: Client,
) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        write(client, "agent:a1#owner@user:alice@example.com")
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "object_id: does not match regex pattern" in str(refusal.value.details())
    assert error_info(refusal.value) is None


# Methods and the token


def call(
    port: int, method: tuple[str, str, bool, bool], *metadata: tuple[str, str], request: bytes = b""
) -> grpc.RpcError:
    """The error with which this request, raw bytes, ends."""
    path, _, client_streams, server_streams = method
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        kind = f"{'stream' if client_streams else 'unary'}_{'stream' if server_streams else 'unary'}"
        function = getattr(channel, kind)(path)
        message: Any = iter([request]) if client_streams else request
        try:
            response = function(message, metadata=metadata, timeout=5)
            pytest.fail(f"{path} returned {list(response)}")
        except grpc.RpcError as error:
            return error


@pytest.mark.parametrize(
    "authorization", [[], [("authorization", "Bearer wrong")], [("authorization", "local")], [("authorization", "")]]
)
def test_every_method_refuses_a_missing_or_wrong_token(
    spicedb: LocalSpiceDB, authorization: list[tuple[str, str]]
) -> None:
    methods = [*METHODS, ("/no.such.Service/Method", "Method", False, False)]
    codes = {method[0]: call(spicedb.port, method, *authorization).code() for method in methods}
    assert set(codes.values()) == {grpc.StatusCode.UNAUTHENTICATED}


def test_a_method_that_the_engine_does_not_offer_is_unimplemented_and_named(spicedb: LocalSpiceDB) -> None:
    missing = [method for method in METHODS if method[1] not in SERVED]
    assert {method[1] for method in missing} >= {"ImportBulkRelationships", "ExportBulkRelationships", "ReflectSchema"}
    for method in missing:
        error = call(spicedb.port, method, ("authorization", "Bearer local"))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert error.details() == f"the local SpiceDB does not offer {method[0]}"


@pytest.mark.parametrize(
    ("text", "code", "description"),
    [
        *(
            (f"rpc error: code = {name} desc = why", code, "why")
            for name, code in [
                ("Canceled", grpc.StatusCode.CANCELLED),
                ("DeadlineExceeded", grpc.StatusCode.DEADLINE_EXCEEDED),
                ("NotFound", grpc.StatusCode.NOT_FOUND),
                ("Code(99)", grpc.StatusCode.UNKNOWN),
            ]
        ),
        ("rpc error: code = Internal desc = one\ntwo", grpc.StatusCode.INTERNAL, "one\ntwo"),
        ("invalid handle: 1", grpc.StatusCode.UNKNOWN, "invalid handle: 1"),
    ],
)
def test_the_status_in_the_engine_s_text_is_taken_as_it_is(text: str, code: grpc.StatusCode, description: str) -> None:
    assert status(text) == (code, description)


def test_a_request_that_is_no_message_is_an_error_and_not_the_end_of_the_server(
    spicedb: LocalSpiceDB, client: Client
) -> None:
    check = next(method for method in METHODS if method[1] == "CheckPermission")
    error = call(spicedb.port, check, ("authorization", "Bearer local"), request=b"\xff\xff\xff")
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert client.ReadSchema(ReadSchemaRequest(), timeout=5).schema_text


def test_the_token_also_comes_from_call_credentials(spicedb: LocalSpiceDB) -> None:
    client = SyncClient(f"127.0.0.1:{spicedb.port}", insecure_bearer_token_credentials("local"))
    assert client.ReadSchema(ReadSchemaRequest(), timeout=5).schema_text


def test_the_schema_can_be_read_and_written(name: str) -> None:
    server = LocalSpiceDB(0, name, "definition user {}")
    try:
        client = InsecureClient(f"127.0.0.1:{server.port}", name)
        client.WriteSchema(WriteSchemaRequest(schema=SCHEMA), timeout=5)
        assert "definition agent_schedule" in client.ReadSchema(ReadSchemaRequest(), timeout=5).schema_text
    finally:
        server.stop()


def test_relationships_are_read_page_by_page(client: Client, name: str) -> None:
    write(client, *(f"agent:{name}#viewer@user:u{number}" for number in range(5)))
    request = ReadRelationshipsRequest(
        consistency=NOW, relationship_filter=everything_on(f"agent:{name}"), optional_limit=2
    )
    pages: list[list[str]] = []
    while found := list(client.ReadRelationships(request, timeout=5)):
        pages.append([item.relationship.subject.object.object_id for item in found])
        request.optional_cursor.CopyFrom(found[-1].after_result_cursor)
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(subject for page in pages for subject in page) == [f"u{number}" for number in range(5)]


def test_resources_subjects_and_the_tree_of_a_permission_can_be_looked_up(client: Client, name: str) -> None:
    write(client, f"agent:{name}#owner@user:{name}")
    resources = client.LookupResources(
        LookupResourcesRequest(
            consistency=NOW,
            resource_object_type="agent",
            permission="update",
            subject=SubjectReference(object=thing(f"user:{name}")),
        ),
        timeout=5,
    )
    assert [found.resource_object_id for found in resources] == [name]
    subjects = client.LookupSubjects(
        LookupSubjectsRequest(
            consistency=NOW, resource=thing(f"agent:{name}"), permission="update", subject_object_type="user"
        ),
        timeout=5,
    )
    assert [found.subject.subject_object_id for found in subjects] == [name]
    tree = client.ExpandPermissionTree(
        ExpandPermissionTreeRequest(consistency=NOW, resource=thing(f"agent:{name}"), permission="delete"), timeout=5
    )
    assert tree.tree_root.expanded_relation == "delete"


def test_a_watch_without_a_deadline_sees_a_write(client: Client, name: str) -> None:
    before = write(client, f"agent:{name}#owner@user:alice").written_at
    changes = client.Watch(WatchRequest(optional_object_types=["agent"], optional_start_cursor=before))
    write(client, f"agent:{name}#editor@user:bob")
    give_up = threading.Timer(5, changes.cancel)
    give_up.start()
    seen = next(update.relationship for response in changes for update in response.updates)
    give_up.cancel()
    changes.cancel()
    assert (seen.resource.object_id, seen.relation, seen.subject.object.object_id) == (name, "editor", "bob")


# Deadlines and load


def test_a_stream_ends_at_its_deadline(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as end:
        list(client.Watch(WatchRequest(), timeout=0.2))
    assert end.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_write_whose_deadline_passes_while_it_waits_has_no_effect(name: str) -> None:
    # Given a server whose threads are all taken
    server = LocalSpiceDB(0, "local", SCHEMA)
    try:
        client = InsecureClient(f"127.0.0.1:{server.port}", "local")
        watches = []
        while True:
            try:
                client.ReadSchema(ReadSchemaRequest(), timeout=0.1)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017 - it ends the loop
                break
            watches += [client.Watch(WatchRequest()) for _ in range(32)]
        # When a write waits for longer than its client does
        with pytest.raises(grpc.RpcError) as end:
            write(client, f"agent:{name}#owner@user:alice", timeout=0.1)
        assert end.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # Then it is dropped when its turn comes
        for watch in watches:
            watch.cancel()
        write(client, f"agent:{name}#owner@user:bob")
        assert stored(client, f"agent:{name}") == ["owner@bob"]
    finally:
        server.stop()


def test_writes_take_turns_and_one_whose_deadline_passes_meanwhile_has_no_effect(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a write that the engine has not begun yet
    begun, released = threading.Event(), threading.Event()
    method = "/authzed.api.v1.PermissionsService/WriteRelationships"
    engine = _UNARY[method]

    def hang(handle: int, request: bytes) -> bytes:
        monkeypatch.setitem(_UNARY, method, engine)
        begun.set()
        released.wait(10)
        return engine(handle, request)

    monkeypatch.setitem(_UNARY, method, hang)
    with ThreadPoolExecutor(1) as pool:
        try:
            first = pool.submit(write, client, f"agent:{name}#owner@user:alice")
            assert begun.wait(10)
            # When another write waits for longer than its client does
            with pytest.raises(grpc.RpcError) as end:
                write(client, f"agent:{name}#owner@user:bob", timeout=0.1)
            assert end.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            released.set()
        # Then the first one takes effect, and the other one does not
        first.result()
    write(client, f"agent:{name}#owner@user:carol")
    assert stored(client, f"agent:{name}") == ["owner@alice", "owner@carol"]


def test_of_fifty_clients_that_race_for_one_schedule_exactly_one_registers_it(spicedb: LocalSpiceDB, name: str) -> None:
    resource = f"agent_schedule:{name}"
    start = threading.Barrier(50)

    def register(number: int) -> grpc.StatusCode:
        with_own_channel = InsecureClient(f"127.0.0.1:{spicedb.port}", "local")
        start.wait()
        try:
            write(with_own_channel, f"{resource}#owner@user:u{number}", only_if=nothing_on(resource), timeout=10)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    with ThreadPoolExecutor(50) as pool:
        codes = sorted(code.name for code in pool.map(register, range(50)))
    assert codes == ["FAILED_PRECONDITION"] * 49 + ["OK"]
    assert len(stored(InsecureClient(f"127.0.0.1:{spicedb.port}", "local"), resource)) == 1


# The process


def start(*arguments: str, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "local.stack.spicedb", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_when_it_is_ready_and_ends_within_a_second_of_a_signal(number: signal.Signals) -> None:
    with start("--port", "0", "--token", "other") as process:
        assert process.stdout
        ready = re.fullmatch(r"SpiceDB ready on 127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert ready
        client = InsecureClient(f"127.0.0.1:{ready[1]}", "other")
        assert "definition agent_schedule" in client.ReadSchema(ReadSchemaRequest(), timeout=5).schema_text
        watch = client.Watch(WatchRequest())
        process.send_signal(number)
        assert process.wait(1) == 0
        watch.cancel()
        assert process.communicate() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "env", "line"),
    [
        (
            ["--port", "{taken}"],
            {},
            r"port \d+ \(SpiceDB\) is taken; set SPICEDB_PORT to another",
        ),
        (
            ["--port", "0"],
            {"SPICEDB_LIBRARY_PATH": "nowhere/libspicedb.so"},
            r"SpiceDB's engine is not installed \(nowhere/libspicedb.so is missing\); "
            r"remove node_modules and run `make run`",
        ),
        (
            ["--port", "0", "--schema", "pyproject.toml"],
            {},
            r"SpiceDB refuses the schema: parse error in `schema`, line 1, .*",
        ),
        (
            ["--port", "0", "--schema", "nowhere.zed"],
            {},
            r".*nowhere.zed.*",
        ),
    ],
    ids=["the port is taken", "the engine is missing", "the schema does not parse", "the schema is missing"],
)
def test_the_process_ends_with_one_clear_line_when(
    spicedb: LocalSpiceDB, arguments: list[str], env: dict[str, str], line: str
) -> None:
    with start(*(argument.format(taken=spicedb.port) for argument in arguments), **env) as process:
        stdout, stderr = process.communicate(timeout=10)
        assert process.returncode == 1
    assert stdout == ""
    assert re.fullmatch(line + r"\n", stderr)


def test_a_second_server_cannot_share_the_port(spicedb: LocalSpiceDB) -> None:
    with pytest.raises(StartError, match=rf"port {spicedb.port} \(SpiceDB\) is taken"):
        LocalSpiceDB(spicedb.port, "local", SCHEMA)


def test_the_process_ends_when_its_parent_is_killed() -> None:
    # Given a parent that starts SpiceDB, and then only waits
    parent_code = (
        "import signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'local.stack.spicedb', '--port', '0'], stdout=sys.stdout)\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", parent_code], cwd=ROOT, text=True, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        port = int(parent.stdout.readline().rpartition(":")[2])
        assert accepts_connections(port)
        # When
        parent.kill()
        # Then
        give_up = time.monotonic() + 5
        while accepts_connections(port):
            if time.monotonic() > give_up:
                os.kill(pid, signal.SIGKILL)
                pytest.fail("SpiceDB outlived its parent")
