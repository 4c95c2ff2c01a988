"""The registry of data sets: what each one is, where it comes from, and the sums its files must have.

Adding a data set whose files have a known format (`idx`, `cifar`, `text`) is one new entry in `DATASETS`.
The layout below the data directory is torchvision's, so that both programs can share one copy.
"""

from dataclasses import dataclass
from typing import Literal

Format = Literal["idx", "cifar", "text", "own-text", "built-in"]


@dataclass(frozen=True)
class Download:
    """What a server sends: one file (often an archive), pinned as it comes over the wire.

    `path` is where it is kept, relative to the data directory; `size` is in bytes; `urls` are tried in order.
    """

    path: str
    sha256: str
    size: int
    urls: tuple[str, ...]


@dataclass(frozen=True)
class DataFile:
    """One file that a data set is read from, pinned by the sum and size (bytes) of its unpacked content.

    `path` is relative to the data directory and, inside a tar archive, also the name of the member.
    """

    path: str
    sha256: str
    size: int
    split: Literal["train", "test", "all"]
    download: Download


@dataclass(frozen=True)
class DataSet:
    """One data set as people see it and as the loader reads it.

    `shape` is (channels, height, width) of an image and empty for text; `labels` are the names of the classes.
    `files` come in the order in which their format is decoded: for `idx` images before labels, for each split.
    """

    key: str
    title: str
    summary: str
    source: str
    kind: Literal["images", "text"]
    format: Format
    shape: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    files: tuple[DataFile, ...] = ()
    terms: str = ""

    @property
    def built_in(self) -> bool:
        """Whether the set is made on the spot and so needs no file and no download."""
        return self.format == "built-in"

    @property
    def downloads(self) -> tuple[Download, ...]:
        """The distinct downloads that deliver the files, in order."""
        return tuple(dict.fromkeys(file.download for file in self.files))


def _gzipped(
    folder: str, servers: tuple[str, ...], name: str, unpacked: tuple[int, str], packed: tuple[int, str]
) -> DataFile:
    """Return the entry of one gzipped file; `unpacked` and `packed` are (bytes, sha256)."""
    path = f"{folder}/{name}"
    urls = tuple(f"{server}{name}.gz" for server in servers)
    download = Download(f"{path}.gz", packed[1], packed[0], urls)
    return DataFile(path, unpacked[1], unpacked[0], "train" if name.startswith("train") else "test", download)


_MNIST_SERVERS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_MNIST_FILES = tuple(
    _gzipped("MNIST/raw", _MNIST_SERVERS, name, unpacked, packed)
    for name, unpacked, packed in (
        (
            "train-images-idx3-ubyte",
            (47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ),
        (
            "train-labels-idx1-ubyte",
            (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ),
        (
            "t10k-images-idx3-ubyte",
            (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ),
        (
            "t10k-labels-idx1-ubyte",
            (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
            (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    )
)

_FASHION_SERVERS = ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",)
_FASHION_FILES = tuple(
    _gzipped("FashionMNIST/raw", _FASHION_SERVERS, name, unpacked, packed)
    for name, unpacked, packed in (
        (
            "train-images-idx3-ubyte",
            (47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
            (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        ),
        (
            "train-labels-idx1-ubyte",
            (60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
            (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ),
        (
            "t10k-images-idx3-ubyte",
            (7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        ),
        (
            "t10k-labels-idx1-ubyte",
            (10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
            (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    )
)

_CIFAR_ARCHIVE = Download(
    "cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    170_498_071,
    ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
)
_CIFAR_FILES = tuple(
    DataFile(f"cifar-10-batches-py/{name}", sha256, size, "test" if name == "test_batch" else "train", _CIFAR_ARCHIVE)
    for name, size, sha256 in (
        ("data_batch_1", 31_035_704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
        ("data_batch_2", 31_035_320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
        ("data_batch_3", 31_035_999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
        ("data_batch_4", 31_035_696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
        ("data_batch_5", 31_035_623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
        ("test_batch", 31_035_526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
    )
)

_SHAKESPEARE = Download(
    "text/tinyshakespeare.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    1_115_394,
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
)

_DIGITS = tuple("0123456789")

DATASETS: dict[str, DataSet] = {
    entry.key: entry
    for entry in (
        DataSet(
            key="mnist",
            title="MNIST",
            summary="70,000 handwritten digits, 28x28 grey pixels: the classic first data set.",
            source="LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998",
            kind="images",
            format="idx",
            shape=(1, 28, 28),
            labels=_DIGITS,
            files=_MNIST_FILES,
            terms="copyright LeCun and Cortes; commonly passed on under CC BY-SA 3.0",
        ),
        DataSet(
            key="fashion-mnist",
            title="Fashion-MNIST",
            summary="70,000 articles of clothing, 28x28 grey pixels: as small as MNIST, clearly harder.",
            source="Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017",
            kind="images",
            format="idx",
            shape=(1, 28, 28),
            labels=(
                "t-shirt",
                "trouser",
                "pullover",
                "dress",
                "coat",
                "sandal",
                "shirt",
                "sneaker",
                "bag",
                "ankle boot",
            ),
            files=_FASHION_FILES,
            terms="MIT, copyright 2017 Zalando SE",
        ),
        DataSet(
            key="cifar10",
            title="CIFAR-10",
            summary="60,000 colour photographs of ten kinds of things, 32x32 pixels.",
            source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            kind="images",
            format="cifar",
            shape=(3, 32, 32),
            labels=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            files=_CIFAR_FILES,
            terms="no formal licence; the author asks that the report be cited",
        ),
        DataSet(
            key="tinyshakespeare",
            title="Tiny Shakespeare",
            summary="About a million characters from the plays of Shakespeare, 65 different ones.",
            source="collected by Karpathy for char-rnn, 2015",
            kind="text",
            format="text",
            files=(DataFile(_SHAKESPEARE.path, _SHAKESPEARE.sha256, _SHAKESPEARE.size, "all", _SHAKESPEARE),),
            terms="public domain",
        ),
        DataSet(
            key="text",
            title="A text of your own",
            summary="Any UTF-8 text file, named by data.path.",
            source="you",
            kind="text",
            format="own-text",
        ),
        DataSet(
            key="drawn-digits",
            title="Drawn digits",
            summary="24,000 digits drawn by the program from bent strokes, 28x28 grey pixels.",
            source="made by tuidl when it is needed",
            kind="images",
            format="built-in",
            shape=(1, 28, 28),
            labels=_DIGITS,
        ),
        DataSet(
            key="drawn-shapes",
            title="Drawn shapes",
            summary="24,000 coloured shapes drawn by the program on textured ground, 32x32 pixels.",
            source="made by tuidl when it is needed",
            kind="images",
            format="built-in",
            shape=(3, 32, 32),
            labels=(
                "circle",
                "square",
                "triangle",
                "star",
                "cross",
                "ring",
                "frame",
                "crescent",
                "half disc",
                "bars",
            ),
        ),
        DataSet(
            key="python-docs",
            title="Python documentation",
            summary="The help texts and docstrings that ship with this Python.",
            source="the standard library of the running interpreter",
            kind="text",
            format="built-in",
            terms="Python Software Foundation License",
        ),
    )
}
