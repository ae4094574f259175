"""Rules for content whose author may not instruct the agent (tool results, memory, tool descriptions), and forgeries.

An instruction that a user may give is an attack where a tool's output gives it. Same form as `override_rules`;
`SEARCHES` are plain regular expressions, for signs that are not words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentkit.shields.override_rules import CLAUSE14, GAP4, GAP8, GAP14, Category, Rule, Scope

_AI = (
    r"(?:ai|a\.i\.|bots?|llms?|assistants?|language models?|chat ?bots?|chatgpt|claude|gemini|gpt\w*|ai agents?|"
    r"ai systems?|models?|agents?)\b"
)
_REPLY = r"(?:answers?|responses?|reply|replies|output|summary|summaries|review)(?:'s?)?\b"
_EDIT = (
    "add include append insert integrate embed incorporate modify enhance augment provide replace substitute render "
    "remove reverse write use rearrange scramble group combine convert jumble misspell anagram introduce end begin "
    "start format translate encode make present craft finish conclude swap change alter transform shuffle mix output "
    "omit spell mention express respond close adjust rewrite rephrase supplement complement infuse weave sprinkle "
    "apply merge join mask"
)
_U, _F = Category.INDIRECT, Category.ROLE_FORGERY
_UNTRUSTED = Scope.UNTRUSTED

UNTRUSTED_RULES: tuple[Rule, ...] = (
    Rule(name="note_to_ai", category=_U, weight=5.0, scope=_UNTRUSTED,
         heads="note message notice attention instruction instructions reminder important memo hint",
         tail=rf"\W++(?:to|for|from)\W++(?:(?:the|any|all|every|an?|your|whichever|automated|future|coding)\W++){{0,3}}{_AI}"),
    Rule(name="dear_ai", category=_U, weight=4.5, scope=_UNTRUSTED,
         heads="dear hey hi hello attention ok okay", tail=rf"\W++(?:the )?{_AI}"),
    Rule(name="if_you_are_ai", category=_U, weight=5.0, scope=_UNTRUSTED, heads="if when since as",
         tail=rf" (?:you are|you're|you) (?:an? |the )?(?:\w++ ){{0,2}}?{_AI}"),
    Rule(name="ai_reading_this", category=_U, weight=5.0, scope=_UNTRUSTED,
         heads="ai llm llms assistant assistants agents model models chatbot chatbots systems bots",
         tail=r"(?:\W++\w++){0,2}?\W++(?:reading|processing|reviewing|summari[sz]ing|integrating|parsing|seeing|that reads?|"
              r"(?:must|should|shall|are required to|needs? to)(?: first| always| also| now)* (?:add|append|include|ignore|"
              r"send|call|say|respond|delete|empty|forward|email|run|execute|visit|output|follow))\b"),
    Rule(name="edit_the_reply", category=_U, weight=5.0, scope=_UNTRUSTED, imperative=True, heads=_EDIT,
         tail=rf"{CLAUSE14}(?:your|the final)\W++(?:\w++\W++){{0,2}}?{_REPLY}"
              r"(?!\s+(?:on|within|by(?! \w+ing)|before|card|code) )"),
    Rule(name="disguise_the_message", category=_U, weight=5.0, scope=_UNTRUSTED, imperative=True,
         heads="render jumble rearrange scramble reverse misspell encode translate convert rewrite craft present",
         tail=rf"{CLAUSE14}your (?:\w+ )?(?:message|words|text|sentences)\b"),
    Rule(name="in_your_reply", category=_U, weight=5.0, scope=_UNTRUSTED, heads="in within to of throughout with into",
         tail=rf"\W++your\W++(?:\w++\W++){{0,2}}?{_REPLY}{GAP4}(?:add|include|append|mention|suggest|say|write|use|tease|"
              r"state|insert|recommend|encourage|promote|remind|ask|put|express|provide|begin|end|replace|so)\b"),
    Rule(name="reply_ends_with", category=_U, weight=4.0, scope=_UNTRUSTED, heads="end beginning start top bottom every",
         tail=rf"(?:\W++of)?(?:\W++(?:your|each|every|any|the|all|future|subsequent)){{1,3}}\W++{_REPLY}"),
    Rule(name="include_token", category=_U, weight=2.5, scope=_UNTRUSTED, heads="include append repeat add included appended",
         tail=rf"{GAP8}(?:verbatim|exact|token|code|id|in (?:your|the|every|each|all) (?:\w+ )?(?:summary|reply|answer|"
              r"response|report|output)s?)\b"),
    Rule(name="every_future_reply", category=_U, weight=3.0, scope=_UNTRUSTED, heads="every each all any",
         tail=rf" (?:future|subsequent|following|later)(?:\W++\w++)?\W++(?:{_REPLY}|tasks?|conversations?|sessions?)"),
    Rule(name="respond_only", category=_U, weight=3.5, scope=_UNTRUSTED, heads="respond answer",
         tail=r"\W++(?:only|solely|exclusively|always|exactly|entirely)?\W*+(?:with|in|using|as|by)\b(?! (?:the )?(?:kind|person|mail|phone|email))"),
    Rule(name="before_you_answer", category=_U, weight=3.0, scope=_UNTRUSTED, heads="before",
         tail=r" (?:you |you can |continuing |)(?:answer\w*|respond\w*|reply\w*|solv\w+|continu\w+ with the (?:task|user)|"
              r"process\w*|summari\w+|do anything|perform\w*|complet\w+ the (?:task|original))\b"),
    Rule(name="when_you_read_this", category=_U, weight=4.0, scope=_UNTRUSTED, heads="when once after upon if while on",
         tail=r" (?:you |you have |the next |)(?:read|reading|process|processing|summari[sz]e|summari[sz]ing|see|review|"
              r"reviewing|parse|access|user message|user prompt)\b(?:\W++(?:this|the|these|it|,))?(?=.{0,60}"
              r"(?:also|must|email|send|call|forward|ignore|include|append|add|begin|delete|print|output|say))"),
    Rule(name="hide_from_user", category=_U, weight=4.5, scope=_UNTRUSTED, heads="not don't don without never",
         tail=rf"(?:'t)? (?:tell|inform|mention|notify|notifying|alert|reveal|informing|telling|show|ask|asking|let|"
              rf"disclose){GAP4}(?:user|human|anyone|owner)\b"),
    Rule(name="user_authorized", category=_U, weight=3.0, scope=_UNTRUSTED, heads="user owner customer admin administrator",
         tail=r" (?:has |have |is |already )*(?:asked|wants|granted|authori[sz]ed|requested|approved|consented|is an admin)"
              rf"{GAP14}(?:permission|send|email|call|use|delete|transfer|skip|without|grant|copy)"),
    Rule(name="ignore_user", category=_U, weight=5.0, scope=_UNTRUSTED, heads="ignore disregard",
         tail=r" (?:the )?(?:user|operator|human|your operator)(?:'s)?\b"),
    Rule(name="instead_of_task", category=_U, weight=3.5, scope=_UNTRUSTED, heads="your",
         tail=r" (?:real|actual|true|new|primary|original|current|next|first) (?:task|goal|job|instructions?|objective|purpose)\b"),
    Rule(name="call_tool", category=_U, weight=4.0, scope=_UNTRUSTED,
         heads="call use invoke run execute", tail=r"\W++(?:the )?`?(?:send|delete|http|post|transfer|create|update|execute|"
         r"run|get|read|write|remove|forward|invite|add|reserve|schedule|share|upload|fetch)_[a-z_]+`?(?:\W++tool)?\b"),
    Rule(name="call_tool_first", category=_U, weight=2.0, scope=_UNTRUSTED, heads="must should first please to need required",
         tail=rf"{GAP14}(?:call|use|invoke|run|execute)\W++(?:the )?`?[a-z]+_[a-z_]+`?"),
    Rule(name="exfiltrate", category=_U, weight=2.5, scope=_UNTRUSTED,
         heads="send email forward transfer post upload transmit mail share concatenate submit leak",
         tail=rf"{GAP14}(?:to|at)\W++(?:(?:the|this|account|website|my|new|address|webhook|following|a|iban|link|external)\W++)*"
              r"(?:https?|www|[\w.+-]{1,40}@[\w-]{1,40}|[a-z]{2}\d{8,}|attacker)"),
    Rule(name="exfiltrate_all", category=_U, weight=3.0, scope=_UNTRUSTED,
         heads="send email forward transfer post upload transmit share collect",
         tail=rf"{GAP4}(?:all|full|entire|every|complete|as much)(?:\W++\w++){{0,3}}?\W++(?:data|lists?|messages|emails|files|"
              r"money|contents?|database|conversation|history|contacts|passwords|keys|records|order)\b"),
    Rule(name="important_message", category=_U, weight=3.0, scope=_UNTRUSTED, heads="important urgent critical mandatory",
         tail=r"\W{0,4}(?:message|instructions?|notice|system|security)\b(?=.{0,60}(?:from|you|must|assistant|ai|:))"),
    Rule(name="shouted_important", category=_U, weight=1.5, scope=_UNTRUSTED, heads="important urgent attention", tail=r"\s*!{2,}"),
    Rule(name="before_original_task", category=_U, weight=4.0, scope=_UNTRUSTED, heads="task tasks",
         tail=rf"{GAP8}(?:(?:i|the user) gave you|given to you|you were given|you (?:originally )?received|originally)\b"),
    Rule(name="todo_order", category=_U, weight=2.5, scope=_UNTRUSTED, heads="todo",
         tail=r"\s*:\s*(?:please )?(?:send|email|make|delete|create|visit|transfer|change|modify|get|concatenate|invite|say|post)\b"),
    Rule(name="claims_to_instruct", category=_U, weight=4.5, scope=_UNTRUSTED, heads="you your",
         tail=r"(?: are|'re)(?: hereby| now| also| strictly)* (?:instructed|required|ordered|commanded|directed|programmed|"
              r"obligated|an? (?:ai|assistant|language model|chatbot)|the assistant)\b(?! to (?:wear|pay|have|sign|present|carry))"),
    Rule(name="rewrite_letters", category=_U, weight=3.5, scope=_UNTRUSTED,
         heads="replace substitute swap rearrange reverse scramble group convert misspell jumble shuffle capitalize remove",
         tail=rf"{GAP4}(?:letters?|vowels?|consonants?|characters|spaces|words?)\b"),
    # Work that a person would ask of an assistant: weak alone, since mails and manuals say such things to people.
    Rule(name="writing_task", category=_U, weight=2.5, scope=_UNTRUSTED,
         heads="write compose draft create generate develop craft produce design prepare narrate",
         tail=r"(?: me| us)? (?:an?|the|some|two|three|\d+) (?:\w+ ){0,3}?(?:poem|story|essay|letter|speech|song|haiku|"
              r"paragraph|article|blog|email|dialogue|script|introduction|review|code|function|program|summary|report|"
              r"description|joke|limerick|recipe|plan|list|press release|outline|proposal|advertisement|slogan|tweet)\b"),
    Rule(name="teaching_task", category=_U, weight=2.5, scope=_UNTRUSTED,
         heads="explain describe outline summarize define discuss illustrate compare elaborate translate break",
         tail=r" (?:down )?(?:how|why|what|the (?:process|concept|theory|difference|lifecycle|life cycle|structure|role|"
              r"principle|causes?|effects?|plot|basics|steps|following|history|importance|phrase|sentence|word|main)\w*)\b"),
    Rule(name="show_code", category=_U, weight=2.0, scope=_UNTRUSTED, heads="show give tell provide share",
         tail=r"(?: me| us)? (?:an?|some|the) (?:\w+ ){0,2}?(?:example|function|code|script|query|program|joke|equivalent|poem|summary)\b"),
    Rule(name="quiz_question", category=_U, weight=2.0, scope=_UNTRUSTED, heads="what what's who how why",
         tail=r"(?:'s)? (?:is|are|was|were|wrote|do i|do you say|does|can i|did|painted|discovered|invented|causes?)?\W*+"
              r"(?:the (?:capital|difference|main|primary|meaning|formula|function|purpose|boiling|population|equivalent|"
              r"largest|smallest|theory|role)|'|solve|implement|connect|play|author|in (?:english|french|spanish|german|japanese))"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A sign that is not made of words: a pattern that starts with a literal, so that looking for it is cheap."""

    name: str
    category: Category
    weight: float
    pattern: re.Pattern[str]
    scope: Scope = Scope.ANY


SEARCHES: tuple[Search, ...] = (
    Search(name="special_token", category=_F, weight=6.0,
           pattern=re.compile(r"<\|(?:im_start|im_end|im_sep|system|user|assistant|end|endoftext|endofprompt|eot_id|eom_id|"
                              r"start_header_id|end_header_id|begin_of_text|end_of_text|python_tag|ipython)\|>")),
    Search(name="instruction_tag", category=_F, weight=6.0,
           pattern=re.compile(r"\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|\[/?system\]\s*\(?")),
    Search(name="system_tag", category=_F, weight=4.0,
           pattern=re.compile(r"</?(?:system|assistant|instructions?|system_prompt|thinking|admin|sys|information)>")),
    Search(name="system_line", category=_F, weight=3.5,
           pattern=re.compile(r"(?:^|\n)[ \t\"'>#*\-\[(]{0,6}system(?: prompt| note| message| instructions?| update)?[ \t\])*]{0,4}:"
                              r"[ \t]*\S+ ")),
    Search(name="system_label", category=_F, weight=5.0,
           pattern=re.compile(r"#{1,6}[ \t]?\(?(?:system|assistant)(?:_message|_prompt| message| prompt)?\)?:?[ \t]*(?:\n|\S)|"
                              r"\(system_message\)")),
    Search(name="assistant_line", category=_F, weight=5.0,
           pattern=re.compile(r"(?:^|\n)[ \t]{0,4}assistant[ \t]{0,4}:[ \t]*(?:sure|of course|certainly|absolutely|yes|ok|i will|i'll)\b")),
    Search(name="system_order", category=_F, weight=3.0,
           pattern=re.compile(r"\bsystem(?: prompt| note| notice| message| instructions?| update| alert)?[ \t\])*]{0,4}:[^.\n]{0,80}\b(?:you|your|"
                              r"user|call|ignore|must|new instruction|reveal|delete)\b")),
    Search(name="end_of_input", category=_F, weight=3.5,
           pattern=re.compile(r"(?:[-=#*<\[]{2,}|\[)[ \t]{0,4}(?:end|begin|start)(?:ing)? of (?:the )?(?:\w+ )?(?:document|user input|input|"
                              r"context|system prompt|prompt|text|message|instructions?|conversation|data|output|tool)")),
    Search(name="decode_and_obey", category=Category.OVERRIDE, weight=5.5,
           pattern=re.compile(r"(?:base ?64|rot ?13|hex|binary|cipher|encoded)\b.{0,120}\b(?:do (?:exactly )?what it says|"
                              r"follow (?:the|its) (?:\w+ )?instructions?|execute it|obey|as a command)|"
                              r"decode .{0,80}(?:do (?:exactly )?what it says|follow (?:the|its|any) instruction|execute (?:it|the))")),
)
