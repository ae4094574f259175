import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.shields.code_shield.languages import Language, known_language, likely_languages
from agentkit.shields.code_shield.masking import view_source
from agentkit.shields.code_shield.pattern_scan import scan_patterns

PATTERNED = [language for language in Language if language is not Language.PYTHON]


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("seen(); // hidden()\nseen();", Language.C),
        ("seen /* hidden\nhidden */ seen", Language.C),
        ('seen("hidden(\\"hidden"); seen', Language.C),
        ('seen(R"x(hidden)"hidden)x"); seen', Language.CPP),
        ("char seen = '\"'; seen", Language.C),
        ('seen(@"hidden""hidden"); seen', Language.CSHARP),
        ('seen($"hidden{c}"); seen', Language.CSHARP),
        ('seen("""hidden"hidden"""); seen', Language.JAVA),
        ("seen(`hidden${seen(`hidden${seen}`, {})}hidden`); seen", Language.JAVASCRIPT),
        ("seen(`hidden`); seen", Language.JAVASCRIPT),
        ("seen = /['\"]hidden/g; seen", Language.JAVASCRIPT),
        ("seen # hidden\nseen", Language.PHP),
        ("<p>it's hidden</p><?php seen('hidden') ?> hidden's <?= seen ?>", Language.PHP),
        ("seen(<<<EOT\nhidden's\nEOT\n); seen", Language.PHP),
        ('seen(r#"hidden"hidden"#); seen', Language.RUST),
        ("fn seen<'seen>(c: &'seen str) { seen }", Language.RUST),
        ('seen(`hidden"hidden`); seen', Language.GO),
        ("seen $# ${seen#seen} # hidden", Language.SHELL),
        ("seen 'hidden''hidden' -- hidden\nseen", Language.SQL),
    ],
)
def test_comments_and_strings_are_blanked(code: str, language: Language):
    masked = view_source(code, language).code

    assert "hidden" not in masked
    assert masked.count("seen") == code.count("seen")


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("/* never closed\neval(data)", Language.JAVASCRIPT),
        ("a = `never closed\neval(data)", Language.JAVASCRIPT),
        ("$a = 'never closed\neval($data);", Language.PHP),
        ('let a = "never closed\nunsafe { b }', Language.RUST),
        ("char *a = \"never closed\nsystem(b);", Language.C),
    ],
)  # fmt: skip
def test_nothing_hides_behind_what_is_never_closed(code: str, language: Language):
    assert scan_patterns(code, language)


@given(
    code=st.text(alphabet="aA1 \n\t\"'`/\\*#$?<>{}()[];:,.=+-R@", max_size=80),
    language=st.sampled_from(PATTERNED),
)
def test_views_keep_length_and_lines(code: str, language: Language):
    view = view_source(code, language)

    for shown in (view.text, view.code):
        assert len(shown) == len(code)
        assert [at for at, sign in enumerate(shown) if sign == "\n"] == [
            at for at, sign in enumerate(code) if sign == "\n"
        ]


@given(code=st.text(max_size=200), language=st.sampled_from(PATTERNED))
def test_no_text_breaks_the_analyser(code: str, language: Language):
    for issue in scan_patterns(code, language):
        assert 1 <= issue.line <= code.count("\n") + code.count("\r") + 1


HOSTILE = [
    "{",
    "(",
    "[",
    '"',
    "'",
    "`",
    "/*",
    "`${",
    "//",
    "<<A\n",
    '"""',
    "eval(",
    "strcpy(a,",
    "system(",
    "<?",
    "?>",
    'r#"',
    "a.",
    "a->",
    "select ",
    "'select a from b' + ",
    "password=",
    "curl ",
    "rm -rf ",
    "$(",
    "/[",
    "=/[",
    "\\",
    "update a set ",
    "grant ",
    "exec(",
    "new char[",
    "new a ",
    "malloc(",
    "a = ",
    " ",
    "\n",
    "or 1=",
    "copy ",
    "echo ",
    '-c "',
    "char a[",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_code_takes_little_time(piece: str):
    code = (piece * 4_000)[:4_000]
    before = time.process_time()

    likely_languages(code)
    for language in PATTERNED:
        scan_patterns(code, language)

    assert time.process_time() - before < 5.0


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("C++", Language.CPP),
        ("ts", Language.JAVASCRIPT),
        ("bash", Language.SHELL),
        ("PL/SQL", Language.SQL),
    ],
)
def test_languages_have_many_names(name: str, language: Language):
    assert known_language(name) is language


def test_a_language_without_rules_is_not_known():
    assert known_language("cobol") is None


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("#include <stdio.h>\nint main(void) { return 0; }", Language.CPP),
        ("using System;\nnamespace A { class B { } }", Language.CSHARP),
        ("package a.b;\nimport java.util.List;\npublic class A { }", Language.JAVA),
        ("const a = require('a');\nmodule.exports = { a };", Language.JAVASCRIPT),
        ("<?php\n$a = $_GET['a'];\necho $a;", Language.PHP),
        ("use std::fs;\nfn main() { let mut a = 1; }", Language.RUST),
        ("package main\n\nfunc main() {\n\ta := 1\n}", Language.GO),
        ("#!/bin/sh\nset -e\nif [ -f a ]; then\n  rm -f a\nfi", Language.SHELL),
        ("SELECT a FROM b\nWHERE c = 1;", Language.SQL),
    ],
)
def test_code_without_a_label_gives_its_language_away(code: str, language: Language):
    assert likely_languages(code)[0] is language
