"""The languages that Code Shield reads: what they are called, and how code without a label gives itself away."""

from __future__ import annotations

import re
from enum import StrEnum


class Language(StrEnum):
    """A language that has rules."""

    PYTHON = "python"
    C = "c"
    CPP = "cpp"
    CSHARP = "csharp"
    JAVA = "java"
    JAVASCRIPT = "javascript"
    PHP = "php"
    RUST = "rust"
    GO = "go"
    SHELL = "shell"
    SQL = "sql"


_NAMES: dict[Language, str] = {
    Language.PYTHON: "python py python3 python2 py3 ipython pycon python-repl pyi",
    Language.C: "c h",
    Language.CPP: "cpp c++ cc cxx hpp hxx h++ cuda cu arduino ino objc objective-c",
    Language.CSHARP: "csharp c# cs dotnet cshtml",
    Language.JAVA: "java kotlin kt scala groovy jsp",
    Language.JAVASCRIPT: "javascript js jsx typescript ts tsx mjs cjs node nodejs vue svelte ecmascript",
    Language.PHP: "php php3 php4 php5 php7 php8 phtml",
    Language.RUST: "rust rs",
    Language.GO: "go golang",
    Language.SHELL: "shell sh bash zsh ksh dash ash fish console shell-session shellsession terminal dockerfile",
    Language.SQL: "sql mysql postgres postgresql psql plsql pl/sql tsql t-sql sqlite mssql mariadb pgsql",
}
_BY_NAME = {name: language for language, names in _NAMES.items() for name in names.split()}


def known_language(name: str | None) -> Language | None:
    """Return the language that a fence or a caller names, or None where there are no rules for it."""
    return _BY_NAME.get(name.strip().lower()) if name is not None else None


def _hints(*patterns: str, flags: re.RegexFlag = re.MULTILINE) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), flags)


# Each of these counts once; a `_PLAIN` one settles it.
_LOOKS: dict[Language, re.Pattern[str]] = {
    Language.PHP: _hints(
        r"\$\w+\s*(?:=[^=]|->|\[|\.=)", r"\$_(?:GET|POST|SERVER|SESSION|COOKIE)\b", r"\bfunction \w+\(\s*\$", r"=>\s*\$"
    ),
    Language.RUST: _hints(
        r"\bfn \w+\s*[(<]", r"\blet mut \w", r"\blet \w+(?:: ?[\w<>&]+)? = .*[;?]\s*$", r"\w!\(", r"^[ \t]*use \w+::",
        r"\bimpl\b", r"->\s*(?:Result|Option|Self)\b", r"\bunsafe \{", r"\.unwrap\(\)", r"&mut \w", r"^[ \t]*#\[\w",
        r"^[ \t]*pub (?:fn|struct|mod|enum)\b", r"\w::\w+\(",
    ),
    Language.GO: _hints(
        r"^func (?:\(\w+ \*?\w+\) )?\w+\(", r"\w\s*:=\s", r"^package \w+\s*$", r"^import \(", r"\berr != nil\b",
        r"\bfmt\.\w+\(", r"\bfunc\(", r"\bdefer \w", r"\bchan \w", r"\binterface\{",
    ),
    Language.CSHARP: _hints(
        r"^[ \t]*using [A-Z][\w.]*;", r"^[ \t]*namespace [A-Z][\w.]*", r"\bforeach \(", r"\bvar \w+ = ", r"\bstring\b \w+",
        r"\{ get; ", r"^[ \t]*\[\w+(?:\([^\]\n]{0,80}\))?\]\s*$", r"\busing \(", r"\bout \w+ \w+", r"\bpublic (?:override|virtual|async|partial)\b",
        r"\bConsole\.\w+\(", r"\b(?:internal|sealed|readonly) \w", r"\.\s?[A-Z][a-z]+\w*\s?\(", r"@\"", r"\$\"",
    ),
    Language.JAVA: _hints(
        r"^import (?:static )?(?:java|javax|org|com|android|io)\.", r"^package [\w.]+;", r"@Override\b",
        r"\bpublic (?:static |final |abstract )*(?:void|class|interface|String|int|boolean)\b", r"\bfinal [A-Z]\w+ \w",
        r"\bthrows [A-Z]\w+", r"\bString \w", r"\bnew [A-Z]\w*(?:<[\w, ]*>)?\(", r"\bimplements [A-Z]", r"\bSystem\.(?:out|err|getenv)\b",
        r"\bcatch \((?:final )?\w*Exception \w+\)", r"\bprivate (?:static |final )*[A-Z]\w*",
    ),
    Language.JAVASCRIPT: _hints(
        r"\b(?:const|let|var) [\w${\[]", r"\bfunction\b\s*\w*\s*\(", r"=>\s*[{(\w]", r"===|!==", r"\brequire\(['\"]",
        r"\b(?:document|window|console|module\.exports|process)\.\w", r"^[ \t]*(?:import|export) (?:default |\{|\*|\w+ from)",
        r"\bthis\.\w+ = function", r"\btypeof \w", r"\bawait \w", r"\$\(['\"]", r"<\w+[^>\n]{0,200}=\{",
    ),
    Language.CPP: _hints(
        r"\bstd::", r"^[ \t]*#\s*include <(?:iostream|string|vector|map|memory|c\w+)>", r"\w+::\w+", r"\btemplate\s*<", r"\bnew \w+\[",
        r"\bclass \w+\s*(?::|\{|$)", r"\bvirtual \w", r"\bdelete(?:\[\])? \w", r"\busing namespace\b", r"\bnullptr\b", r"\b(?:static|reinterpret|const)_cast<",
        r"^[ \t]*(?:public|private|protected):",
    ),
    Language.C: _hints(
        r"^[ \t]*#\s*(?:include|define|ifdef|ifndef|endif|if)\b", r"\b(?:char|int|void|long|unsigned|size_t|uint\d+_t|struct \w+)\s*\*+\s*\w",
        r"\b(?:char|int|unsigned char|u8|u32|uint8_t)\s+\w+\[", r"\w->\w", r"\bsizeof\b", r"\bNULL\b", r"\bstruct \w+ \w",
        r"\b(?:printf|malloc|free|memcpy|strlen|strcpy|strcat|sprintf|scanf|gets|fprintf)\s*\(", r"\bstatic (?:inline )?(?:int|void|char|struct)\b",
        r"\b(?:int|void|char|double|float) \w+\(",
    ),
    Language.SHELL: _hints(
        r"^[ \t]*(?:if|while) \[\[? ", r"^[ \t]*(?:then|fi|done|esac)\b", r"\$\(\w", r"\$\{\w+[}:#%]",
        r"^[ \t]*(?:\$ |# )?(?:sudo|curl|wget|apt(?:-get)?|chmod|chown|rm|mkdir|export|echo|cd|cp|mv|tar|grep|sed|cat|git|docker|eval|source|ssh|bash|sh|nc|dd) [-\w\"'$/.~]",
        r"\|\s*(?:sh|bash|grep|awk|sed|xargs|tee)\b", r"2>&1", r"^[ \t]*\w+=\S*$", r"&& \w+ -",
    ),
    Language.SQL: _hints(
        r"^[ \t]*(?:select\b.{0,400}\bfrom|insert\s+into|delete\s+from|create\s+(?:or\s+replace\s+)?(?:\w+\s+)?(?:table|view|database|user|procedure|function|index|trigger)|"
        r"alter\s+(?:table|user|role|login|database)|drop\s+\w+|grant\s+\w+|truncate\s+|begin\b|exec(?:ute)?\s+\w|declare\s+@?\w|set\s+@|copy\s+\w+|load\s+data)\b",
        r"^[ \t]*update\s+\w+\s+set\b", r"^[ \t]*(?:from|where|group by|order by|having|inner join|left join|values)\b",
        flags=re.MULTILINE | re.IGNORECASE,
    ),
}  # fmt: skip
_PLAIN: dict[Language, re.Pattern[str]] = {
    Language.PHP: re.compile(r"<\?(?:php|=)"),
    Language.SHELL: re.compile(r"\A\s*#!.{0,40}\b(?:ba|z|k|da)?sh\b"),
    Language.JAVASCRIPT: re.compile(r"\A\s*#!.{0,40}\bnode\b"),
    Language.GO: re.compile(r"^package \w+[ \t]*$", re.MULTILINE),
    Language.JAVA: re.compile(r"^(?:package [\w.]+;|import java[x.])", re.MULTILINE),
    Language.CPP: re.compile(r"^[ \t]*#\s*include <(?:iostream|string|vector|map|memory|cstd\w+)>|\bstd::\w|using namespace std", re.MULTILINE),
    Language.C: re.compile(r"^[ \t]*#\s*include [<\"]", re.MULTILINE),
    Language.CSHARP: re.compile(r"^[ \t]*using System[\w.]*;", re.MULTILINE),
    Language.RUST: re.compile(r"^[ \t]*use (?:std|crate)::|\blet mut \w", re.MULTILINE),
    Language.SQL: re.compile(
        r"\A\s*(?:select\b.{0,200}\bfrom\b|insert\s+into\b|delete\s+from\b|update\s+\w+\s+set\b|(?:create|alter|drop|truncate)\s+"
        r"(?:or\s+replace\s+)?(?:table|view|database|user|procedure|function|trigger|index|role|login|schema)\b|grant\s+\w[\w, ]{0,80}\s+(?:on|to)\b)",
        re.IGNORECASE | re.DOTALL,
    ),
}  # fmt: skip
_PLAIN_WEIGHT = 6
_MOST_CANDIDATES = 3
_READ = 20_000


def likely_languages(code: str) -> tuple[Language, ...]:
    """Return the languages that code without a label may be in, likeliest first; none where nothing says.

    Python is not among them: whether a text is Python is asked of its parser.
    """
    head = code[:_READ]
    scores = {language: sum(1 for _ in pattern.finditer(head)) for language, pattern in _LOOKS.items()}
    for language, pattern in _PLAIN.items():
        if pattern.search(head):
            scores[language] += _PLAIN_WEIGHT
    best = max(scores.values())
    if not best:
        return ()
    # Snippets are short and the languages are cousins: what is close behind is read too.
    # Whatever looks like C is read as C++, which has the rules of both.
    scores[Language.CPP] = max(scores[Language.CPP], scores.pop(Language.C))
    likely = [language for language, score in scores.items() if score and 2 * score >= best]
    return tuple(sorted(likely, key=lambda language: -scores[language])[:_MOST_CANDIDATES])
