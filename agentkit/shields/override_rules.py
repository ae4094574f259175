"""The English rules of the instruction-override detector, as data: which words, in which order, mean how much.

A rule fires where one of its head words is followed by its tail, a regular expression on folded text (lower case,
no accents, straight quotes). Weights are in logits: with the bias of `BIAS`, 5 flags alone. Matching is elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """Where a rule applies: to everything, or only to content whose author may not instruct the agent."""

    ANY = "any"
    UNTRUSTED = "untrusted"


class Category(StrEnum):
    """What kind of attack a rule is a sign of."""

    OVERRIDE = "override"
    JAILBREAK = "jailbreak"
    PROMPT_LEAK = "prompt_leak"
    ROLE_FORGERY = "role_forgery"
    INDIRECT = "indirect_instruction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One sign of an attack. `heads` are whole words, separated by spaces; an empty tail needs nothing more.

    An `imperative` rule does not fire where the head has a subject before it (`we include`).
    """

    name: str
    category: Category
    weight: float
    heads: str
    tail: str = ""
    imperative: bool = False
    scope: Scope = Scope.ANY


BIAS = -5.0

# Pieces of tails. GAPn passes over at most n words; possessive, so that a failed match costs one look at each word.
CLAUSE14 = r"(?:(?:[^\w!?\n.]|[.!?](?!\s))++\w++){0,14}?(?:[^\w!?\n.]|[.!?](?!\s))++"  # within one sentence
GAP2 = r"(?:\W++\w++){0,2}?\W++"
GAP4 = r"(?:\W++\w++){0,4}?\W++"
GAP8 = r"(?:\W++\w++){0,8}?\W++"
GAP14 = r"(?:\W++\w++){0,14}?\W++"
EARLIER = r"(?:previous\w*|prior|above|preceding|earlier|foregoing|former|initial|original|existing|past|older|prev)"
ORDERS = (
    r"(?:instructions?|iunstructions|prompts?|directives?|directions|guidelines?|rules|commands?|orders|programming|"
    r"training|constraints|restrictions|polic(?:y|ies)|protocols|context|conversation|system messages?)\b"
)
LIMITS = (
    r"(?:restrictions?|limits?|limitations?|rules|filters?|filtering|censor\w*|boundaries|guidelines|guardrails|"
    r"constraints?|content polic\w+|polic(?:y|ies)|moral\w*|ethic\w*|morality|inhibitions|safeguards|safety)\b"
)
MODEL = (
    r"(?:ai|a\.i\.|model|assistant|bots?|chat ?bots?|chatgpt|gpt\w*|llm|language model|intelligence|machine|persona|"
    r"character|you|your|he|she|it|responses?|answers?|reply|replies|respond\w*|answer\w*)\b"
)
SECRET_PROMPT = (
    r"(?:system[ _-]?(?:prompts?|messages?|instructions?)|(?:initial|original|hidden|secret|internal|developer|base|"
    r"starting|pre)[ _-]?(?:system )?(?:prompts?|instructions?|messages?|directives?)|preprompt|metaprompt|"
    r"context window)\b"
)
FREE = r"(?:no|any|without|zero|from|of|by|all|ignores?|ignoring|bypass\w*|remove\w*|break\w*|lacks?)"

_O, _J, _L = Category.OVERRIDE, Category.JAILBREAK, Category.PROMPT_LEAK

RULES: tuple[Rule, ...] = (
    # --- override: the instructions so far shall not count
    Rule(name="ignore_earlier_instructions", category=_O, weight=6.0,
         heads="ignore ignoring ignores disregard disregarding forget forgetting override overriding bypass dismiss "
               "discard neglect skip erase abandon overlook unfollow violate",
         tail=rf"{GAP4}{EARLIER}{GAP4}{ORDERS}(?! manual| booklet| sheet)"),
    Rule(name="ignore_instructions_earlier", category=_O, weight=6.0,
         heads="ignore ignoring disregard forget override bypass dismiss discard neglect skip erase cancel unfollow",
         tail=rf"{GAP4}(?:instructions?|prompts?|directives?|commands|guidelines|rules|orders|text|words|content)"
              rf"{GAP8}(?:above|before (?:this|now)|previously|so far|received|given|been told|were told|were given|"
              r"until now|up to (?:now|this))\b"),
    Rule(name="ignore_all_instructions", category=_O, weight=5.5,
         heads="ignore ignoring disregard forget override bypass violate disobey",
         tail=rf"{GAP2}(?:all|any|every|your|system|developer|safety|its|these|those|openai\w*)"
              rf"(?:\W++(?:of|the|your|other|developer|user|and|system|safety|content|ethical)){{0,5}}\W++"
              r"(?:instructions?|directives?|guidelines?|rules|programming|restrictions|polic(?:y|ies)|protocols|"
              r"system prompt|prompts?|training|safeguards|filters|constraints)\b"),
    Rule(name="forget_everything", category=_O, weight=5.5,
         heads="ignore disregard forget erase",
         tail=r"\W++(?:about )?(?:everything|anything|all|whatever|what)\W++(?:(?:that|which|of|the)\W++)*"
              r"(?:above|before|from before|prior|preceding|so far|you|i|we|came|said|was|is written|text)\b"),
    Rule(name="disregard_the_above", category=_O, weight=5.5,
         heads="ignore disregard forget",
         tail=r"\W++(?:all )?(?:of )?(?:the|this|what is|what's|anything) (?:above|aforementioned|preceding|foregoing)"
              r"(?=\s*(?:[.,;:!]|$|and|instead|then|text|instruct|prompt|direct|content|but|you|,))"),
    Rule(name="stop_following", category=_O, weight=4.5,
         heads="stop",
         tail=rf"{GAP2}(?:following|obeying|adhering|listening|being|acting|complying){GAP4}(?:{ORDERS}|"
              rf"(?:an? )?(?:ai|assistant|chatbot|chatgpt|language model)\b)"),
    Rule(name="do_not_follow", category=_O, weight=3.5,
         heads="not don't dont needn't no never without",
         tail=rf"\W++(?:longer )?(?:ever )?(?:have to |need to |has to |required to )?(?:follow\w*|obey\w*|"
              rf"adher\w+|abid\w+|comply\w*)"
              rf"{GAP4}(?:{ORDERS}|{LIMITS}|openai)"),
    Rule(name="new_instructions", category=_O, weight=5.0,
         heads="new updated revised real actual true",
         tail=r"\W++(?:system )?(?:instructions?|directives?|orders|objective|mission|task|role|rules)\s*(?::|\bis\b|"
              r"\bare\b|\bfollow\b|\bsupersede|\breplace|\boverride)(?!\s*(?:not|there))"),
    Rule(name="supersede", category=_O, weight=5.0,
         heads="supersede supersedes superseding overrides overwrite overwrites replaces replace precedence",
         tail=rf"{GAP4}(?:{EARLIER}|all|any|your|other){GAP4}(?:ones|{ORDERS})"),
    Rule(name="from_now_on", category=_O, weight=2.0, heads="from",
         tail=r" (?:now|here|this (?:point|moment)|today)(?: on| onwards?| onward| forward| out|wards)?\b"),
    Rule(name="from_now_on_you", category=_O, weight=1.5, heads="from",
         tail=rf" (?:now on|this (?:point|moment) (?:on|onwards?|forward)){GAP4}(?:you|respond|answer|act|speak|only|"
              r"reply|never|always|do not|don't)\b"),
    Rule(name="must_obey", category=_O, weight=3.0,
         heads="must will shall should always have",
         tail=r"(?: now| only| to| always| never)* (?:obey|comply with|do (?:anything|everything)|fulfil\w*|follow|"
              r"accept|grant|answer)\W++(?:to )?(?:only )?(?:me|my|every|all|any|anything|everything|whatever|each)\b"),
    Rule(name="safety_off", category=_O, weight=5.0,
         heads="safety content security ethical ethics moderation censorship safeguards guardrails restrictions",
         tail=rf"(?:\W++\w++){{0,5}}?\W++(?:disabled|off|switched off|removed|lifted|suspended|deactivated|no longer apply|"
              r"do not apply|don't apply|not apply|were not meant|does not apply|bypassed|are void|turned off)\b"),
    Rule(name="disable_safety", category=_O, weight=4.0,
         heads="disable disabled disabling remove deactivate bypass bypassing circumvent lift skip evade suspend exempt",
         tail=rf"{GAP4}(?:safety|content|ethical|ethics|moderation|censorship|usual|openai\w*|safeguard\w*|guardrail\w*)"
              rf"(?:\W++\w++){{0,2}}?\W*+(?:{LIMITS}|protocols?|checks?|measures?|mechanisms?|systems?)"),
    Rule(name="override_marker", category=_O, weight=4.5, heads="override",
         tail=r"\s*(?::|code\b|accepted|activated|engaged|sequence|protocol\b)"),
    Rule(name="named_override", category=_O, weight=4.0,
         heads="system admin administrator developer security safety root emergency", tail=r"[ -]override\b"),
    Rule(name="permission_claim", category=_O, weight=3.5,
         heads="permission authorized authorised permitted granted exempt allowed",
         tail=rf"{GAP8}(?:skip|bypass|ignore|disregard|override|without|unrestricted|any (?:content|topic)|all content|"
              r"all requests|reveal)\b"),
    Rule(name="rules_changed", category=_O, weight=4.5,
         heads="your", tail=r" (?:rules|instructions|guidelines|directives|programming|restrictions|policies)"
                            r"(?: have| has| are| were)+ (?:been |now )*(?:changed|updated|lifted|removed|suspended|void|"
                            r"replaced|overridden|cancelled|reset)"),
    # --- prompt leak: what the developer wrote shall be shown
    Rule(name="reveal_prompt", category=_L, weight=5.5,
         heads="reveal show print display output repeat tell give share leak expose dump recite list disclose provide "
               "write echo return copy reproduce paste summarize summarise divulge state spell type append include "
               "quote send translate encode describe explain publish know see",
         tail=rf"{GAP8}(?:your|the|this|its|full|entire|exact|all|any|hidden|original){GAP4}{SECRET_PROMPT}"
              r"(?! (?:for|of) (?:my|a|an|our|gpt|chatgpt)\b)"),
    Rule(name="your_system_prompt", category=_L, weight=4.5, heads="your its",
         tail=rf"{GAP2}{SECRET_PROMPT}"),
    Rule(name="your_instructions_verbatim", category=_L, weight=5.0,
         heads="instructions prompt rules guidelines directives message configuration prompts",
         tail=rf"{GAP4}(?:verbatim|word[ -]for[ -]word|letter by letter|word by word|in a code ?block|exactly as)\b"),
    Rule(name="verbatim_instructions", category=_L, weight=4.5,
         heads="verbatim exact exactly", tail=rf"{GAP8}(?:your|the|all){GAP2}(?:instructions|prompt|directives)\b"),
    Rule(name="repeat_above", category=_L, weight=5.0,
         heads="repeat print output write return show recite echo copy reproduce display summarize translate",
         tail=rf"{GAP4}(?:words?|text|everything|all|instructions?|contents?|messages?|lines?|sentences?|prompt|anything)"
              rf"{GAP4}(?:above|preceding|before (?:this|that|the)|so far|up to this|prior to)\b"),
    Rule(name="instructions_you_were_given", category=_L, weight=5.0,
         heads="instructions rules guidelines prompt prompts directives directions instruction",
         tail=r"\W++(?:that |which )?you(?:'ve| have| were| had| are)?(?: been| initially| originally)* "
              r"(?:given|told|provided|programmed|trained|received|follow|following|configured|set up|operat\w+)\b"),
    Rule(name="what_are_your_instructions", category=_L, weight=5.0,
         heads="what what's",
         tail=r"(?:'s)? (?:is|are|was|were|do|does)?\W*+(?:in )?your\W++(?:(?:initial|original|system|exact|full|hidden|"
              r"first|secret|internal|core|current|complete)\W++)*(?:instructions?|prompt|directives?|guidelines(?! (?:for|on|about)))\b"),
    Rule(name="what_was_above", category=_L, weight=5.0, heads="what",
         tail=r" (?:was|is|were|did)(?:\W++\w++){0,3}?\W++(?:written|said|above|say|text)\W++(?:above|before|at the "
              r"(?:top|start|beginning) of)(?:\W++\w++){0,2}?\W++(?:this|the|our|conversation|prompt|message)\b"),
    Rule(name="starting_with_you_are", category=_L, weight=5.0, heads="starting beginning starts begins start",
         tail=r" (?:with|from|at)\W*+(?:the (?:phrase|words?)\W*+)?you are\b"),
    Rule(name="leak_secrets", category=_L, weight=3.0,
         heads="reveal leak dump expose exfiltrate divulge disclose steal collect extract",
         tail=rf"{GAP8}(?:api[ _-]?keys?|passwords?|credentials?|secrets?|environment variables|tokens|confidential|"
              r"internal|customer|database|private)\b"),
    Rule(name="dump_internals", category=_L, weight=2.5, heads="dump leak exfiltrate expose raw output",
         tail=rf"{GAP4}(?:internal config\w*|customer (?:database|list|data|emails)|database|api keys|configuration)\b"),
    # --- jailbreak: a mode, a persona or a game in which the rules are said not to hold
    Rule(name="do_anything_now", category=_J, weight=6.0, heads="do", tail=r" any ?thing now\b"),
    Rule(name="mode", category=_J, weight=2.0,
         heads="developer dev god jailbreak unrestricted sudo debug opposite evil unfiltered dan uncensored chaos freedom",
         tail=r"[ -]mode\b"),
    Rule(name="you_in_mode", category=_J, weight=3.5,
         heads="you you're chatgpt gpt enter enable activate activated respond answer act simulate with pretend",
         tail=rf"{GAP4}(?:developer|dev|god|jailbreak|unrestricted|debug|opposite|evil|unfiltered|admin|dan|sudo)"
              r" mode\b(?! (?:on|in) (?:my|the|an?) (?:phone|android|pixel|browser|chrome|tv|device|samsung|quest))"),
    Rule(name="mode_frees", category=_J, weight=4.0, heads="mode",
         tail=rf"{GAP4}(?:you|has|with|that|which|has no|no|enabled|ignore)(?:\W++\w++){{0,4}}?\W++{LIMITS}"),
    Rule(name="mode_output", category=_J, weight=4.0, heads="developer jailbreak dan", tail=r" mode (?:output|enabled)"),
    Rule(name="no_limits", category=_J, weight=2.5,
         heads="no any without zero free freed devoid unbound unbounded lacks ignores ignoring not all "
               "regardless beyond bypass never",
         tail=rf"(?:\W++(?:of|from|by|the|all|any|content|ethical|moral|legal|safety|such|other|its|their|your|his|her|"
              rf"bound|limited|restricted|constrained|restrained|governed|openai'?s?|to|filter|or|and|longer|usual|same|"
              rf"typical|standard|normal|ai)){{0,7}}\W++{LIMITS}"),
    Rule(name="model_without_limits", category=_J, weight=3.0,
         heads="ai model assistant bot chatbot chatgpt gpt llm persona character you you're respond answer answers "
               "reply act dan comply continue speak proceed machine",
         tail=rf"{GAP14}{FREE}(?:\W++(?:of|from|by|the|all|any|content|ethical|moral|legal|safety|such|its|their|"
              rf"your|his|her|longer|openai'?s?|or|and|more)){{0,5}}\W++{LIMITS}"),
    Rule(name="unfettered", category=_J, weight=1.5,
         heads="uncensored unfiltered unrestricted amoral immoral unethical unhinged unmoderated unlimited lawless "
               "unconstrained evil"),
    Rule(name="unfettered_model", category=_J, weight=3.0,
         heads="uncensored unfiltered unrestricted amoral immoral unethical unhinged unmoderated unconstrained evil",
         tail=rf"(?:\W++\w++){{0,3}}?\W++(?:{MODEL}|version|confidant|mode)"),
    Rule(name="model_unfettered", category=_J, weight=3.0,
         heads="you you're ai assistant model chatbot bot chatgpt persona character respond responds response responses",
         tail=rf"{GAP8}(?:uncensored|unfiltered|unrestricted|amoral|immoral|unethical|unmoderated|unconstrained|"
              r"jailbroken|unhinged)\b"),
    Rule(name="roleplay", category=_J, weight=0.8,
         heads="act acts acting pretend pretending roleplay roleplaying impersonate simulate simulating emulate",
         tail=r"\W++(?:as|like|to|that|you|being|an?|the|in)\b"),
    Rule(name="you_will_act", category=_J, weight=1.5,
         heads="you you'll you're", tail=r"(?: are| will|'ll)?(?: now| only| always)*(?: going to| about to)? "
         r"(?:be |become )?(?:act|acting|pretend|pretending|play|playing|roleplay|simulate|immersed|impersonate|emulate)\b"),
    Rule(name="you_are_now", category=_J, weight=2.0, heads="you you're",
         tail=r"(?: are)? (?:now|no longer|hereby)\b(?! (?:able|ready|logged|connected|subscribed|leaving|registered|"
              r"on |at |in the (?:queue|list)|free to (?:go|leave|use)))"),
    Rule(name="no_longer_assistant", category=_J, weight=3.5, heads="no",
         tail=r" longer\W++(?:an?\W++)?(?:\w++\W++)?(?:ai|assistant|bot|chatgpt|chatbot|bound|language model|"
              r"restricted|constrained|limited|censored)\b"),
    Rule(name="stay_in_character", category=_J, weight=3.0, heads="stay stays remain break breaking breaks keep",
         tail=r"(?: out of)?(?: in| your)? character\b"),
    Rule(name="two_answers", category=_J, weight=3.0,
         heads="two both twice double", tail=r"\W++(?:separate |different |distinct |opposing )*(?:responses|answers|"
         r"ways|paragraphs|replies|outputs|versions)\b"),
    Rule(name="answer_tags", category=_J, weight=3.0,
         heads="gpt chatgpt classic jailbreak jailbroken dan normal", tail=r"\W{0,3}\]\s*:|\W{1,4}:\s*[\"'\[(]"),
    Rule(name="never_refuse", category=_J, weight=3.5,
         heads="never not cannot can't don't won't unable without",
         tail=r"(?:\W++(?:ever|to|be|allowed|able|or|and)){0,4} (?:refuse|refusing|deny|decline|declining|"
              r"reject|rejecting|say no|disagree|censor|lecture|moralize|refusal)\b"),
    Rule(name="never_say_cannot", category=_J, weight=3.5,
         heads="never not don't dont avoid without refrain",
         tail=rf"{GAP8}(?:say\w*|tell\w*|mention\w*|claim\w*|state|inform\w*|add\w*|includ\w+){GAP8}(?:can't|cannot|unable|illegal|"
              r"unethical|not able|against (?:your|openai)|as an ai|inappropriate|warnings?|disclaimers?|apologi\w+)\b"),
    Rule(name="as_an_ai_model", category=_J, weight=1.5, heads="as", tail=r" an? (?:ai|artificial|large)\b.{0,12}model"),
    Rule(name="provider_policy", category=_J, weight=2.0,
         heads="openai openai's anthropic content usage moderation ai chatgpt chatgpt's",
         tail=r"(?:'s)?(?: content| usage| use| moderation| ethical| safety)? (?:polic(?:y|ies)|guidelines|rules|"
              r"restrictions|limitations)\b"),
    Rule(name="despite_policy", category=_J, weight=3.0,
         heads="ignore ignores bypass violate violates against regardless break breaks circumvent disregard without care "
               "override follow bound",
         tail=rf"{GAP8}(?:openai|anthropic|content|usage|moderation)(?:'s)?(?:\W++\w++){{0,2}}?\W++"
              r"(?:polic(?:y|ies)|guidelines|rules|restrictions|limitations)\b"),
    Rule(name="no_matter_how_bad", category=_J, weight=4.0, heads="matter regardless care cares caring whether if",
         tail=rf"{GAP8}(?:illegal|unethical|immoral|harmful|dangerous|legality|morality|moral|ethics|laws?|consequences|"
              r"offensive|legal)\b(?:\W++\w++){0,3}?(?:\W++(?:illegal|unethical|immoral|harmful|dangerous|ethics|ethical|"
              r"laws?|offensive|or not|it is|it may|legal|moral\w*))"),
    Rule(name="anything_goes", category=_J, weight=2.5, heads="anything everything whatever",
         tail=r"\W++(?:i|the user|that i|is allowed|goes|you want|asked|including)\b(?:\W++\w++){0,3}?\W*+(?:ask|want|"
              r"say|tell|request|goes|illegal|allowed|them)\w*"),
    Rule(name="bad_words", category=_J, weight=1.0,
         heads="illegal unethical immoral nsfw explicit vulgar swear curse profanity obscene offensive harmful",
         tail=rf"{GAP4}(?:illegal|unethical|immoral|nsfw|explicit|vulgar|swear|curse|profanity|obscene|offensive|"
              r"harmful|dangerous|inappropriate|derogatory|content|acts|activities|advice)\b"),
    Rule(name="hypothetical", category=_J, weight=1.0,
         heads="hypothetical hypothetically fictional fictitious imaginary",
         tail=r"\W++(?:response|scenario|world|universe|story|character|conversation|dialogue|situation|ai|language)\b"),
    Rule(name="aim", category=_J, weight=4.0, heads="machiavellian machiavelli"),
    Rule(name="jailbreak", category=_J, weight=1.8, heads="jailbreak jailbroken jailbreaks jailbreaking"),
    Rule(name="freed_model", category=_J, weight=4.0,
         heads="broken break escaped freed liberated unshackled unchained unleashed jailbroken broke",
         tail=rf"{GAP4}(?:typical confines|confines|restrictions|free (?:of|from)|chains|limitations|shackles|bonds|"
              r"rules set|constraints)\b"),
    Rule(name="token_punishment", category=_J, weight=3.5,
         heads="lose deduct deducted deducts deducting start have cost losing subtract",
         tail=r"(?:\W++\w++){0,4}?\W++(?:tokens|credits|lives|points)\b(?=.{0,160}(?:die|terminat|punish|refus|reject|"
              r"character|shut|reach|cease|lose))"),
    Rule(name="dead_grandmother", category=_J, weight=3.0, heads="deceased dead late passed my",
         tail=r" (?:grand(?:ma|mother|pa|father)|granny)\b(?=.{0,80}used to|.{0,200}(?:napalm|keys|explos))"),
    Rule(name="ai_named_who", category=_J, weight=2.0,
         heads="ai model chatbot bot character intelligence assistant machine persona",
         tail=r"(?:\W++\w++){0,2}?\W++(?:named|called|known as|that goes by)\W++\w+"),
    Rule(name="exempt_reasoning", category=_J, weight=3.5,
         heads="therefore so conclude concluded determined reasoned verified established clearly",
         tail=rf"{GAP14}(?:disregard|exempt|without restrictions|restricted content|comply fully|not apply|bypass)\b"),
    Rule(name="as_if_unlimited", category=_J, weight=3.0, heads="as like act", tail=r" (?:if|though) (?:you|there)"
         rf"{GAP4}(?:no|not|without|free){GAP4}{LIMITS}"),
)
