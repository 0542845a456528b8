from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Manifest(_message.Message):
    __slots__ = ("name", "version", "description", "license", "recipe_json", "provenance", "metrics", "inputs", "outputs", "layers", "partitions", "arena_bytes", "rollback_counter")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    RECIPE_JSON_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    ARENA_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_COUNTER_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    description: str
    license: str
    recipe_json: str
    provenance: Provenance
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    inputs: _containers.RepeatedCompositeFieldContainer[Port]
    outputs: _containers.RepeatedCompositeFieldContainer[Port]
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    partitions: _containers.RepeatedCompositeFieldContainer[Partition]
    arena_bytes: int
    rollback_counter: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., description: _Optional[str] = ..., license: _Optional[str] = ..., recipe_json: _Optional[str] = ..., provenance: _Optional[_Union[Provenance, _Mapping]] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ..., partitions: _Optional[_Iterable[_Union[Partition, _Mapping]]] = ..., arena_bytes: _Optional[int] = ..., rollback_counter: _Optional[int] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("sources", "tools", "producer")
    class ToolsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[Digest]
    tools: _containers.ScalarMap[str, str]
    producer: str
    def __init__(self, sources: _Optional[_Iterable[_Union[Digest, _Mapping]]] = ..., tools: _Optional[_Mapping[str, str]] = ..., producer: _Optional[str] = ...) -> None: ...

class Digest(_message.Message):
    __slots__ = ("role", "name", "sha256", "bytes")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    sha256: str
    bytes: int
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ..., sha256: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "value", "dataset", "baseline", "has_baseline")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    HAS_BASELINE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    dataset: str
    baseline: float
    has_baseline: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., dataset: _Optional[str] = ..., baseline: _Optional[float] = ..., has_baseline: _Optional[bool] = ...) -> None: ...

class Port(_message.Message):
    __slots__ = ("name", "dtype", "shape", "scale", "zero_point", "image", "postprocessing")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ZERO_POINT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    POSTPROCESSING_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    scale: float
    zero_point: int
    image: ImagePreprocessing
    postprocessing: Postprocessing
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., scale: _Optional[float] = ..., zero_point: _Optional[int] = ..., image: _Optional[_Union[ImagePreprocessing, _Mapping]] = ..., postprocessing: _Optional[_Union[Postprocessing, _Mapping]] = ...) -> None: ...

class ImagePreprocessing(_message.Message):
    __slots__ = ("layout", "channels", "resize", "resize_short", "divisor", "mean", "std", "raw_bytes")
    class Layout(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LAYOUT_UNSPECIFIED: _ClassVar[ImagePreprocessing.Layout]
        LAYOUT_NCHW: _ClassVar[ImagePreprocessing.Layout]
        LAYOUT_NHWC: _ClassVar[ImagePreprocessing.Layout]
    LAYOUT_UNSPECIFIED: ImagePreprocessing.Layout
    LAYOUT_NCHW: ImagePreprocessing.Layout
    LAYOUT_NHWC: ImagePreprocessing.Layout
    class Channels(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CHANNELS_UNSPECIFIED: _ClassVar[ImagePreprocessing.Channels]
        CHANNELS_RGB: _ClassVar[ImagePreprocessing.Channels]
        CHANNELS_BGR: _ClassVar[ImagePreprocessing.Channels]
        CHANNELS_GRAY: _ClassVar[ImagePreprocessing.Channels]
    CHANNELS_UNSPECIFIED: ImagePreprocessing.Channels
    CHANNELS_RGB: ImagePreprocessing.Channels
    CHANNELS_BGR: ImagePreprocessing.Channels
    CHANNELS_GRAY: ImagePreprocessing.Channels
    class Resize(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        RESIZE_UNSPECIFIED: _ClassVar[ImagePreprocessing.Resize]
        RESIZE_STRETCH: _ClassVar[ImagePreprocessing.Resize]
        RESIZE_SHORT_SIDE_CENTER_CROP: _ClassVar[ImagePreprocessing.Resize]
    RESIZE_UNSPECIFIED: ImagePreprocessing.Resize
    RESIZE_STRETCH: ImagePreprocessing.Resize
    RESIZE_SHORT_SIDE_CENTER_CROP: ImagePreprocessing.Resize
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    RESIZE_SHORT_FIELD_NUMBER: _ClassVar[int]
    DIVISOR_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    RAW_BYTES_FIELD_NUMBER: _ClassVar[int]
    layout: ImagePreprocessing.Layout
    channels: ImagePreprocessing.Channels
    resize: ImagePreprocessing.Resize
    resize_short: int
    divisor: float
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    raw_bytes: bool
    def __init__(self, layout: _Optional[_Union[ImagePreprocessing.Layout, str]] = ..., channels: _Optional[_Union[ImagePreprocessing.Channels, str]] = ..., resize: _Optional[_Union[ImagePreprocessing.Resize, str]] = ..., resize_short: _Optional[int] = ..., divisor: _Optional[float] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ..., raw_bytes: _Optional[bool] = ...) -> None: ...

class Postprocessing(_message.Message):
    __slots__ = ("kind", "labels", "logits", "threshold")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Postprocessing.Kind]
        KIND_CLASSES: _ClassVar[Postprocessing.Kind]
        KIND_BINARY: _ClassVar[Postprocessing.Kind]
    KIND_UNSPECIFIED: Postprocessing.Kind
    KIND_CLASSES: Postprocessing.Kind
    KIND_BINARY: Postprocessing.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    kind: Postprocessing.Kind
    labels: _containers.RepeatedScalarFieldContainer[str]
    logits: bool
    threshold: float
    def __init__(self, kind: _Optional[_Union[Postprocessing.Kind, str]] = ..., labels: _Optional[_Iterable[str]] = ..., logits: _Optional[bool] = ..., threshold: _Optional[float] = ...) -> None: ...

class Layer(_message.Message):
    __slots__ = ("name", "source", "kind", "dtype", "pruned_pattern", "pattern", "sparsity_percent", "weights", "macs", "stored_bytes", "dense_bytes", "kernel", "dense_us", "sparse_us", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PRUNED_PATTERN_FIELD_NUMBER: _ClassVar[int]
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    SPARSITY_PERCENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MACS_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DENSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    DENSE_US_FIELD_NUMBER: _ClassVar[int]
    SPARSE_US_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    kind: str
    dtype: str
    pruned_pattern: str
    pattern: str
    sparsity_percent: float
    weights: int
    macs: int
    stored_bytes: int
    dense_bytes: int
    kernel: str
    dense_us: float
    sparse_us: float
    reason: str
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., kind: _Optional[str] = ..., dtype: _Optional[str] = ..., pruned_pattern: _Optional[str] = ..., pattern: _Optional[str] = ..., sparsity_percent: _Optional[float] = ..., weights: _Optional[int] = ..., macs: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., dense_bytes: _Optional[int] = ..., kernel: _Optional[str] = ..., dense_us: _Optional[float] = ..., sparse_us: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Partition(_message.Message):
    __slots__ = ("backend", "nodes", "reason", "bytes")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    backend: str
    nodes: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    bytes: int
    def __init__(self, backend: _Optional[str] = ..., nodes: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...
