from .stimulus_set import StimulusSet as StimulusSet
