"""What is asked: years, prompts and tasks, and the measures that score an answer.

Public: `year_spans` (prompts), `read_prompts` (own_prompts), `PromptSet` (prompt_set), `find_task` and `custom_task`
(tasks), `Behaviour` (behaviour), `Intervention`. No module needs a model; a tokenizer is enough.

Read in this order: `years` (the 100 years, the contrast), `templates`, `nouns`, `tasks`, `prompts` (every start year
of a noun) and `prompt_set` (as arrays), `own_prompts` (the user's), `sample` (the published distribution), `controls`
(control prompts), `behaviour`, `intervention`.
"""
