"""The types of ISA-95 Job Control in an OPC UA address space (OPC 10031-4, version 2.00).

Names, numeric ids, field order and method signatures are those of the public namespace
``http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/``; the nodes are made here in code. Built are
the data types, the job-order receiver type with its methods and states, and the job-response
provider type: the parts that a client needs to send, start, watch and take back job orders.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from asyncua import Node, Server, ua

NAMESPACE = "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/"


class ReturnStatus(IntFlag):
    """Bits of the methods' ReturnStatus (OPC 10031-4, table 95)."""

    NO_ERROR = 1 << 0
    UNKNOWN_JOB_ORDER = 1 << 1
    INVALID_STATUS = 1 << 3
    UNABLE_TO_ACCEPT = 1 << 4
    INVALID_REQUEST = 1 << 32


class JobStateNumber(IntEnum):
    """StateNumber of the states of a job order."""

    NotAllowedToStart = 1
    AllowedToStart = 2
    Running = 3
    Interrupted = 4
    Ended = 5
    Aborted = 6


_STRING, _INT16, _UINT16, _UINT32, _UINT64 = 12, 4, 5, 7, 9
_DATE_TIME, _LOCALIZED_TEXT, _VARIANT = 13, 21, 24
_RELATIVE_PATH, _EU_INFORMATION, _DECIMAL_STRING, _ARGUMENT = 540, 887, 12878, 296
_STRUCTURE, _STATE_TYPE, _TRANSITION_TYPE, _STATE_MACHINE_TYPE = 22, 2307, 2310, 2771


@dataclass(frozen=True, slots=True)
class _Field:
    """A structure field; ``type`` is an id in namespace 0, or a name of this namespace."""

    name: str
    type: int | str
    is_array: bool = False
    optional: bool = True


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    id: int
    encoding_id: int
    fields: tuple[_Field, ...]


def _resource(id_fields: tuple[_Field, ...], use: str) -> tuple[_Field, ...]:
    """Fields that personnel, equipment, assets and materials share."""
    return (
        *id_fields,
        _Field("Description", _LOCALIZED_TEXT, True),
        _Field(use, _STRING),
        _Field("Quantity", _DECIMAL_STRING),
        _Field("EngineeringUnits", _EU_INFORMATION),
        _Field("Properties", "ISA95PropertyDataType", True),
    )


def _valued(children: str, own: str) -> tuple[_Field, ...]:
    return (
        _Field("ID", _STRING, optional=False),
        _Field("Value", _VARIANT, optional=False),
        _Field("Description", _LOCALIZED_TEXT, True),
        _Field("EngineeringUnits", _EU_INFORMATION),
        _Field(children, own, True),
    )


_ID = (_Field("ID", _STRING, optional=False),)
_MATERIAL_IDS = tuple(
    _Field(f"Material{part}ID", _STRING) for part in ("Class", "Definition", "Lot", "Sublot")
)


def _resources(suffix: str) -> tuple[_Field, ...]:
    kinds = ("Personnel", "Equipment", "PhysicalAsset", "Material")
    return tuple(_Field(f"{kind}{suffix}", f"ISA95{kind}DataType", True) for kind in kinds)


# In the order in which they refer to each other: a type stands after those it uses.
TYPES = (
    _Type("ISA95PropertyDataType", 3002, 5002, _valued("Subproperties", "ISA95PropertyDataType")),
    _Type("ISA95ParameterDataType", 3003, 5005, _valued("Subparameters", "ISA95ParameterDataType")),
    _Type("ISA95EquipmentDataType", 3005, 5008, _resource(_ID, "EquipmentUse")),
    _Type("ISA95MaterialDataType", 3010, 5017, _resource(_MATERIAL_IDS, "MaterialUse")),
    _Type("ISA95PersonnelDataType", 3011, 5020, _resource(_ID, "PersonnelUse")),
    _Type("ISA95PhysicalAssetDataType", 3012, 5023, _resource(_ID, "PhysicalAssetUse")),
    _Type(
        "ISA95StateDataType",
        3006,
        5029,
        (
            _Field("BrowsePath", _RELATIVE_PATH, optional=False),
            _Field("StateText", _LOCALIZED_TEXT, optional=False),
            _Field("StateNumber", _UINT32, optional=False),
        ),
    ),
    _Type(
        "ISA95WorkMasterDataType",
        3007,
        5011,
        (
            *_ID,
            _Field("Description", _LOCALIZED_TEXT),
            _Field("Parameters", "ISA95ParameterDataType", True),
        ),
    ),
    _Type(
        "ISA95JobOrderDataType",
        3008,
        5014,
        (
            _Field("JobOrderID", _STRING, optional=False),
            _Field("Description", _LOCALIZED_TEXT, True),
            _Field("WorkMasterID", "ISA95WorkMasterDataType", True),
            _Field("StartTime", _DATE_TIME),
            _Field("EndTime", _DATE_TIME),
            _Field("Priority", _INT16),
            _Field("JobOrderParameters", "ISA95ParameterDataType", True),
            *_resources("Requirements"),
        ),
    ),
    _Type(
        "ISA95JobResponseDataType",
        3013,
        5026,
        (
            _Field("JobResponseID", _STRING, optional=False),
            _Field("Description", _LOCALIZED_TEXT),
            _Field("JobOrderID", _STRING, optional=False),
            _Field("StartTime", _DATE_TIME),
            _Field("EndTime", _DATE_TIME),
            _Field("JobState", "ISA95StateDataType", True, optional=False),
            _Field("JobResponseData", "ISA95ParameterDataType", True),
            *_resources("Actuals"),
        ),
    ),
    _Type(
        "ISA95JobOrderAndStateDataType",
        3015,
        5032,
        (
            _Field("JobOrder", "ISA95JobOrderDataType", optional=False),
            _Field("State", "ISA95StateDataType", True, optional=False),
        ),
    ),
)
_BY_NAME = {t.name: t for t in TYPES}
RECEIVER_TYPE, RESPONSE_PROVIDER_TYPE = 1002, 1003

# method name -> (id, id of InputArguments, id of OutputArguments), at the receiver type
RECEIVER_METHODS = {
    "Store": (7001, 6040, 6041),
    "StoreAndStart": (7004, 6051, 6052),
    "Start": (7005, 6053, 6054),
    "RevokeStart": (7013, 6069, 6070),
    "Abort": (7010, 6063, 6064),
    "Cancel": (7011, 6065, 6066),
    "Clear": (7012, 6067, 6068),
}
BY_ORDER_ID = "RequestJobResponseByJobOrderID"
PROVIDER_METHODS = {BY_ORDER_ID: (7002, 6042, 6043)}
_STATES = {
    "NotAllowedToStart": (5035, 6071),
    "AllowedToStart": (5036, 6072),
    "Running": (5037, 6073),
    "Interrupted": (5038, 6074),
    "Ended": (5039, 6075),
    "Aborted": (5040, 6076),
}
# from, to, id, id of TransitionNumber, in the order of their TransitionNumber
_TRANSITIONS = (
    ("NotAllowedToStart", "NotAllowedToStart", 5041, 6077),
    ("NotAllowedToStart", "AllowedToStart", 5042, 6078),
    ("AllowedToStart", "NotAllowedToStart", 5043, 6079),
    ("AllowedToStart", "AllowedToStart", 5044, 6080),
    ("AllowedToStart", "Running", 5045, 6081),
    ("Running", "Interrupted", 5046, 6082),
    ("Running", "Ended", 5047, 6083),
    ("Running", "Aborted", 5048, 6084),
    ("Interrupted", "Aborted", 5049, 6085),
    ("Interrupted", "Running", 5050, 6086),
    ("Interrupted", "Ended", 5051, 6087),
    ("NotAllowedToStart", "Aborted", 5084, 6009),
    ("AllowedToStart", "Aborted", 5085, 6010),
)
# variable name -> (id, data type); arrays but for the property MaxDownloadableJobOrders
RECEIVER_VARIABLES: dict[str, tuple[int, int | str]] = {
    "JobOrderList": (6033, "ISA95JobOrderAndStateDataType"),
    "WorkMaster": (6034, "ISA95WorkMasterDataType"),
    "MaterialClassID": (6035, _STRING),
    "MaterialDefinitionID": (6036, _STRING),
    "EquipmentID": (6037, _STRING),
    "PhysicalAssetID": (6038, _STRING),
    "PersonnelID": (6039, _STRING),
}
MAX_JOB_ORDERS_ID = 6088
RESPONSE_LIST_ID = 6050


def type_id(name: int | str, ns: int) -> ua.NodeId:
    """NodeId of a data type: a name of this namespace, or a number of namespace 0."""
    return ua.NodeId(name, 0) if isinstance(name, int) else ua.NodeId(_BY_NAME[name].id, ns)


def structure(name: str, ns: int) -> type:
    """The Python class of a structure once ``build`` has run."""
    found: type = ua.extension_objects_by_datatype[type_id(name, ns)]
    return found


async def build(server: Server) -> int:
    """Add the types to a server's address space; returns the namespace index."""
    ns: int = await server.register_namespace(NAMESPACE)
    for data_type in TYPES:
        await _add_data_type(server, data_type, ns)
    await server.load_data_type_definitions()
    await _add_receiver_type(server, ns)
    await _add_provider_type(server, ns)
    return ns


async def _add_data_type(server: Server, data_type: _Type, ns: int) -> None:
    parent = server.get_node(ua.NodeId(_STRUCTURE, 0))
    node = await parent.add_data_type(
        ua.NodeId(data_type.id, ns), ua.QualifiedName(data_type.name, ns)
    )
    encoding = ua.NodeId(data_type.encoding_id, ns)
    await _add(
        server, node.nodeid, encoding, ua.QualifiedName("Default Binary", 0), ua.NodeId(76, 0),
        ua.ObjectIds.HasEncoding,
    )  # fmt: skip
    definition = ua.StructureDefinition()
    optional = any(f.optional for f in data_type.fields)
    kinds = ua.StructureType
    definition.StructureType = kinds.StructureWithOptionalFields if optional else kinds.Structure
    definition.BaseDataType = ua.NodeId(_STRUCTURE, 0)
    definition.DefaultEncodingId = encoding
    definition.Fields = [_structure_field(f, ns) for f in data_type.fields]
    await node.write_data_type_definition(definition)


def _structure_field(field: _Field, ns: int) -> ua.StructureField:
    out = ua.StructureField()
    out.Name = field.name
    out.DataType = type_id(field.type, ns)
    out.IsOptional = field.optional
    out.ValueRank = ua.ValueRank.OneDimension if field.is_array else ua.ValueRank.Scalar
    out.ArrayDimensions = [0] if field.is_array else None
    return out


async def _add(
    server: Server,
    parent: ua.NodeId,
    nodeid: ua.NodeId,
    name: ua.QualifiedName,
    type_definition: ua.NodeId,
    reference: int = ua.ObjectIds.HasComponent,
) -> Node:
    """An object node with an explicit type definition and reference."""
    item = ua.AddNodesItem()
    item.RequestedNewNodeId = nodeid
    item.BrowseName = name
    item.ParentNodeId = parent
    item.ReferenceTypeId = ua.NodeId(reference, 0)
    item.NodeClass = ua.NodeClass.Object
    item.TypeDefinition = type_definition
    attributes = ua.ObjectAttributes()
    attributes.DisplayName = ua.LocalizedText(name.Name)
    attributes.EventNotifier = 0
    item.NodeAttributes = attributes
    results = await server.iserver.isession.add_nodes([item])
    results[0].StatusCode.check()
    return server.get_node(nodeid)


def argument(name: str, data_type: ua.NodeId, *, is_array: bool = False) -> ua.Argument:
    """One method argument."""
    out = ua.Argument()
    out.Name = name
    out.DataType = data_type
    out.ValueRank = ua.ValueRank.OneDimension if is_array else ua.ValueRank.Scalar
    out.ArrayDimensions = [0] if is_array else []
    return out


def inputs(method: str, ns: int) -> list[ua.Argument]:
    """Input arguments of a receiver's or provider's method."""
    if method == BY_ORDER_ID:
        return [argument("JobOrderID", ua.NodeId(_STRING, 0))]
    comment = argument("Comment", ua.NodeId(_LOCALIZED_TEXT, 0), is_array=True)
    if method.startswith("Store"):
        return [argument("JobOrder", type_id("ISA95JobOrderDataType", ns)), comment]
    return [argument("JobOrderID", ua.NodeId(_STRING, 0)), comment]


def outputs(method: str, ns: int) -> list[ua.Argument]:
    """Output arguments of a receiver's or provider's method."""
    status = argument("ReturnStatus", ua.NodeId(_UINT64, 0))
    if method == BY_ORDER_ID:
        return [argument("JobResponse", type_id("ISA95JobResponseDataType", ns)), status]
    return [status]


async def _add_methods(
    server: Server, parent: ua.NodeId, methods: dict[str, tuple[int, int, int]], ns: int
) -> None:
    for name, (id, in_id, out_id) in methods.items():
        item = ua.AddNodesItem()
        item.RequestedNewNodeId = ua.NodeId(id, ns)
        item.BrowseName = ua.QualifiedName(name, ns)
        item.ParentNodeId = parent
        item.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HasComponent, 0)
        item.NodeClass = ua.NodeClass.Method
        attributes = ua.MethodAttributes()
        attributes.DisplayName = ua.LocalizedText(name)
        attributes.Executable = attributes.UserExecutable = True
        item.NodeAttributes = attributes
        results = await server.iserver.isession.add_nodes([item])
        results[0].StatusCode.check()
        node = server.get_node(item.RequestedNewNodeId)
        await _mandatory(node)
        for which, label, arguments in (
            (in_id, "InputArguments", inputs(name, ns)),
            (out_id, "OutputArguments", outputs(name, ns)),
        ):
            await node.add_property(
                ua.NodeId(which, ns), ua.QualifiedName(label, 0), arguments,
                varianttype=ua.VariantType.ExtensionObject, datatype=ua.NodeId(_ARGUMENT, 0),
            )  # fmt: skip


async def _mandatory(node: Node) -> None:
    await node.add_reference(ua.NodeId(78, 0), ua.ObjectIds.HasModellingRule, True, False)


async def _add_receiver_type(server: Server, ns: int) -> None:
    base = server.get_node(ua.NodeId(_STATE_MACHINE_TYPE, 0))
    receiver = await base.add_object_type(
        ua.NodeId(RECEIVER_TYPE, ns), ua.QualifiedName("ISA95JobOrderReceiverObjectType", ns)
    )
    for number, (name, (id, number_id)) in enumerate(_STATES.items(), 1):
        state = await _add(
            server, receiver.nodeid, ua.NodeId(id, ns), ua.QualifiedName(name, ns),
            ua.NodeId(_STATE_TYPE, 0),
        )  # fmt: skip
        await state.add_property(
            ua.NodeId(number_id, ns), ua.QualifiedName("StateNumber", 0), number,
            ua.VariantType.UInt32,
        )  # fmt: skip
    for number, (source, target, id, number_id) in enumerate(_TRANSITIONS, 1):
        transition = await _add(
            server, receiver.nodeid, ua.NodeId(id, ns),
            ua.QualifiedName(f"From{source}To{target}", ns), ua.NodeId(_TRANSITION_TYPE, 0),
        )  # fmt: skip
        await transition.add_property(
            ua.NodeId(number_id, ns), ua.QualifiedName("TransitionNumber", 0), number,
            ua.VariantType.UInt32,
        )  # fmt: skip
        for state_name, reference in ((source, 51), (target, 52)):
            await transition.add_reference(
                ua.NodeId(_STATES[state_name][0], ns), reference, True, True
            )
    for name, (id, data_type) in RECEIVER_VARIABLES.items():
        variable = await add_list(receiver, ua.NodeId(id, ns), name, data_type, ns)
        await _mandatory(variable)
    limit = await receiver.add_property(
        ua.NodeId(MAX_JOB_ORDERS_ID, ns), ua.QualifiedName("MaxDownloadableJobOrders", ns), 0,
        ua.VariantType.UInt16,
    )  # fmt: skip
    await _mandatory(limit)
    await _add_methods(server, receiver.nodeid, RECEIVER_METHODS, ns)


async def _add_provider_type(server: Server, ns: int) -> None:
    base = server.get_node(ua.NodeId(ua.ObjectIds.BaseObjectType, 0))
    provider = await base.add_object_type(
        ua.NodeId(RESPONSE_PROVIDER_TYPE, ns),
        ua.QualifiedName("ISA95JobResponseProviderObjectType", ns),
    )
    await add_list(
        provider, ua.NodeId(RESPONSE_LIST_ID, ns), "JobOrderResponseList",
        "ISA95JobResponseDataType", ns,
    )  # fmt: skip
    await _add_methods(server, provider.nodeid, PROVIDER_METHODS, ns)


async def add_list(
    parent: Node, nodeid: ua.NodeId, name: str, data_type: int | str, ns: int
) -> Node:
    """An empty one-dimensional array variable, browse name in this namespace."""
    plain = isinstance(data_type, int)
    kind = ua.VariantType.String if plain else ua.VariantType.ExtensionObject
    variable: Node = await parent.add_variable(
        nodeid, ua.QualifiedName(name, ns), [], kind, type_id(data_type, ns)
    )
    await variable.write_attribute(
        ua.AttributeIds.ValueRank, ua.DataValue(ua.Variant(1, ua.VariantType.Int32))
    )
    await variable.write_attribute(
        ua.AttributeIds.ArrayDimensions, ua.DataValue(ua.Variant([0], ua.VariantType.UInt32))
    )
    return variable


async def add_object(
    server: Server, parent: ua.NodeId, nodeid: ua.NodeId, name: ua.QualifiedName, type: int, ns: int
) -> Node:
    """An object of one of this namespace's object types."""
    return await _add(server, parent, nodeid, name, ua.NodeId(type, ns))
